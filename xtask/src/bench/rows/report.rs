//! The table that the bench prints.

use super::load::Fired;
use super::machine::{Usage, cores};
use super::primitives::{HASHES, Primitives};

/// Which side of its floor a figure should be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    AtLeast,
    AtMost,
}

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Line {
    what: String,
    figure: String,
    floor: String,
    ratio: f64,
    reached: bool,
    latency: Option<(f64, f64)>,
    /// Microseconds of CPU for each, and how many of them cannot be avoided.
    cpu: Option<(f64, f64)>,
    notes: Vec<String>,
}

impl Line {
    pub(super) fn new(what: &str, figure: String) -> Self {
        Self {
            what: what.to_owned(),
            figure,
            floor: String::new(),
            ratio: 0.0,
            reached: true,
            latency: None,
            cpu: None,
            notes: Vec::new(),
        }
    }

    /// The floor, and the figure as a multiple of it.
    pub(super) fn floor(mut self, floor: String, ratio: f64, direction: Direction) -> Self {
        self.floor = floor;
        self.ratio = ratio;
        self.reached = match direction {
            Direction::AtLeast => ratio >= 1.0,
            Direction::AtMost => ratio <= 1.0,
        };
        self
    }

    pub(super) fn latency(mut self, fired: &Fired) -> Self {
        self.latency = Some((fired.quantile(0.5), fired.quantile(0.99)));
        self
    }

    pub(super) const fn cpu(mut self, micros: f64, unavoidable: f64) -> Self {
        self.cpu = Some((micros, unavoidable));
        self
    }

    /// CPU as a multiple of what cannot be avoided, and the most it may be.
    pub(super) fn excess(self, excess: f64, most: f64) -> Self {
        let verdict = if excess <= most { "reached" } else { "missed" };
        self.note(format!(
            "CPU is {excess:.2} × what cannot be avoided, floor {most} ×: {verdict}"
        ))
    }

    /// The same ratio, had this machine the primitives of the one that the floor was set on.
    pub(super) fn scaled(self, ratio: f64, slowness: f64) -> Self {
        self.note(format!(
            "meanwhile the primitives took {slowness:.2} × the time that the floor was set with; by those the ratio is {:.2}",
            ratio * slowness
        ))
    }

    pub(super) fn note(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    /// What others took of the machine meanwhile, and what it would give with nobody else on it:
    /// as much as its cores can pay for.
    pub(super) fn shared(self, fired: &Fired, usage: Usage) -> Self {
        let seconds = fired.elapsed.as_secs_f64();
        let each = (usage.process + usage.own) / fired.good() as f64;
        self.note(format!(
            "cores used: server {:.2}, generator {:.2}, others {:.2} of {}; CPU alone would allow {:.0}/s",
            usage.process / seconds,
            usage.own / seconds,
            usage.others / seconds,
            cores(),
            cores() as f64 / each,
        ))
    }
}

/// Everything that was measured.
#[derive(Clone, Debug)]
pub(super) struct Report {
    machine: String,
    lines: Vec<Line>,
    notes: Vec<String>,
}

impl Report {
    pub(super) const fn new(machine: String) -> Self {
        Self {
            machine,
            lines: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn machine(&self) -> &str {
        &self.machine
    }

    /// Prints the primitives, each as soon as all are known.
    pub(super) fn primitives(&mut self, primitives: &Primitives) {
        let all = [
            ("RS256 verify", primitives.rs256_verify, String::new()),
            ("ES256 verify", primitives.es256_verify, String::new()),
            ("ES256 sign", primitives.es256_sign, String::new()),
            ("Ed25519 verify", primitives.ed25519_verify, String::new()),
            ("Ed25519 sign", primitives.ed25519_sign, String::new()),
            ("SHA-256 of 600 bytes", primitives.sha256, String::new()),
            (
                "HTTP POST through axum",
                primitives.http,
                format!("{:.0}/s with 64 connections", primitives.http_rate),
            ),
            (
                "SQLite, an issuance's rows",
                primitives.sqlite,
                format!(
                    "in transactions of 128, WAL, FULL; {:.1} µs with the disk",
                    primitives.sqlite_elapsed
                ),
            ),
            (
                "a lone sync of a page",
                primitives.sync,
                "waiting, not CPU".to_owned(),
            ),
        ];
        println!("primitive                     CPU µs");
        for (what, micros, note) in all {
            println!("{what:<28} {micros:>7.1}  {note}");
        }
        println!(
            "{:<28} {:>7.1}  RS256 and ES256 verify, ES256 sign, {HASHES} hashes, HTTP, SQLite\n",
            "one issuance, unavoidable",
            primitives.issuance()
        );
    }

    pub(super) fn row(&mut self, line: Line) {
        self.lines.push(line);
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Prints the table. A floor that is missed is a finding, not a failure.
    pub(super) fn print(&self) {
        println!(
            "{:<30} {:>10} {:>10} {:>7} {:<8} {:>8} {:>8} {:>7} {:>12}",
            "row", "figure", "floor", "ratio", "", "p50 ms", "p99 ms", "CPU µs", "unavoidable"
        );
        for line in &self.lines {
            let verdict = if line.reached { "reached" } else { "MISSED" };
            let (ratio, verdict) = if line.floor.is_empty() {
                blank()
            } else {
                (format!("{:.2}", line.ratio), verdict.to_owned())
            };
            let (p50, p99) = line.latency.map_or_else(blank, |(p50, p99)| {
                (format!("{p50:.1}"), format!("{p99:.1}"))
            });
            let (cpu, share) = line.cpu.map_or_else(blank, |(cpu, unavoidable)| {
                (
                    format!("{cpu:.1}"),
                    format!("{:.0} %", 100.0 * unavoidable / cpu),
                )
            });
            println!(
                "{:<30} {:>10} {:>10} {ratio:>7} {verdict:<8} {p50:>8} {p99:>8} {cpu:>7} {share:>12}",
                line.what, line.figure, line.floor
            );
        }
        println!(
            "\nratio: the figure by its floor; at least 1 for a rate, at most 1 for times and memory.\n\
             unavoidable: the primitives at the pace that the machine had during the row, by the CPU of the server."
        );
        for line in &self.lines {
            for note in &line.notes {
                println!("- {}: {note}", line.what);
            }
        }
        for note in &self.notes {
            println!("- {note}");
        }
    }
}

fn blank() -> (String, String) {
    (String::new(), String::new())
}
