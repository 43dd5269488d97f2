//! What the machine and its processes are doing, as `/proc` tells it.

use std::fs;
use std::path::Path;

use super::failure::{Context, Failure};
use super::pace::Pace;

/// Ticks of `/proc/<pid>/stat` a second: `USER_HZ`, which is 100 wherever Linux runs today.
const TICKS: f64 = 100.0;

/// Model, cores and kernel in one line.
pub(super) fn line() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} (family {}, model {}), {} cores, Linux {}, release build of dayfly {}",
        field("model name").unwrap_or_else(unknown),
        field("cpu family").unwrap_or_else(unknown),
        field("model\t").unwrap_or_else(unknown),
        cores(),
        kernel.trim(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// How many cores there are.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Seconds of CPU that a process has used, its ended threads included.
pub(super) fn process_cpu(pid: u32) -> Result<f64, Failure> {
    cpu_of(Path::new(&format!("/proc/{pid}/stat")))
}

/// Seconds of CPU that the threads of this name have used.
pub(super) fn thread_cpu(pid: u32, name: &str) -> Result<f64, Failure> {
    let mut seconds = 0.0;
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("no threads of the server")?;
    for thread in threads.flatten() {
        let comm = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            seconds += cpu_of(&thread.path().join("stat"))?;
        }
    }
    Ok(seconds)
}

fn cpu_of(stat: &Path) -> Result<f64, Failure> {
    let text = fs::read_to_string(stat).context("the process is gone")?;
    // The name in brackets may hold anything; what follows it is numbers.
    let (_, rest) = text.rsplit_once(')').context("an odd stat file")?;
    let mut ticks = rest
        .split_ascii_whitespace()
        .skip(11)
        .map(str::parse::<f64>);
    match (ticks.next(), ticks.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok((user + system) / TICKS),
        (_, _) => Err(Failure::new("an odd stat file")),
    }
}

/// Nanoseconds that this thread was on a CPU.
pub(super) fn own_thread_nanos() -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("no schedstat")?;
    let first = text.split_ascii_whitespace().next();
    first
        .and_then(|word| word.parse().ok())
        .context("an odd schedstat file")
}

/// Seconds of CPU that anything on this machine has used, and that others on the host took away.
pub(super) fn machine_cpu() -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/stat").context("no /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guests are counted within user and nice.
    match ticks.as_slice() {
        [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] => {
            Ok((user + nice + system + irq + softirq + steal) / TICKS)
        }
        _ => Err(Failure::new("an odd /proc/stat")),
    }
}

/// What a process holds in memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// All of it.
    pub(super) resident: u64,
    /// What is no file's.
    pub(super) anonymous: u64,
}

/// What a process holds in memory.
pub(super) fn memory(pid: u32) -> Result<Memory, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    };
    Ok(Memory {
        resident: field("VmRSS:").context("no VmRSS")?,
        anonymous: field("RssAnon:").context("no RssAnon")?,
    })
}

/// CPU used over a span: by a process, by the bench itself, and by everyone else on the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) process: f64,
    pub(super) writer: f64,
    pub(super) own: f64,
    pub(super) others: f64,
    /// Microseconds of CPU that one ES256 verification took meanwhile.
    pub(super) pace: f64,
}

/// The marks that a [`Usage`] is counted from.
pub(super) struct Meter {
    pid: u32,
    process: f64,
    writer: f64,
    own: f64,
    machine: f64,
    pace: Pace,
}

/// The thread of the store that writes.
const WRITER: &str = "dayfly-writer";

impl Meter {
    pub(super) fn start(pid: u32) -> Result<Self, Failure> {
        Ok(Self {
            pid,
            process: process_cpu(pid)?,
            writer: thread_cpu(pid, WRITER)?,
            own: process_cpu(std::process::id())?,
            machine: machine_cpu()?,
            pace: Pace::start(),
        })
    }

    pub(super) fn stop(self) -> Result<Usage, Failure> {
        let process = process_cpu(self.pid)? - self.process;
        let own = process_cpu(std::process::id())? - self.own;
        let machine = machine_cpu()? - self.machine;
        Ok(Usage {
            process,
            writer: thread_cpu(self.pid, WRITER)? - self.writer,
            own,
            others: (machine - process - own).max(0.0),
            pace: self.pace.stop()?,
        })
    }
}
