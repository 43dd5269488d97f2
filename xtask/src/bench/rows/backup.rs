//! Backups of a server's database, one after the other, for as long as something else is measured.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::clock::Watch;
use super::failure::{Context, Failure};
use super::world::World;

/// Backups under way.
pub(super) struct Backups {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Made, Failure>>,
}

/// What was made of them.
pub(super) struct Made {
    pub(super) backups: u32,
    /// Of the last of them, in bytes.
    pub(super) size: u64,
    /// All of them together.
    pub(super) seconds: f64,
}

impl Backups {
    /// Begins with the first.
    pub(super) fn start(binary: PathBuf, world: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, config) = (Arc::clone(&stop), world.config());
        let file = world.folder.join("backup.db");
        let thread = std::thread::spawn(move || {
            let watch = Watch::start();
            let mut made = Made {
                backups: 0,
                size: 0,
                seconds: 0.0,
            };
            while !asked.load(Ordering::SeqCst) {
                let status = Command::new(&binary)
                    .arg("backup")
                    .arg(&file)
                    .arg("--config")
                    .arg(&config)
                    .stdout(Stdio::null())
                    .status()
                    .context("the backup does not start")?;
                if !status.success() {
                    return Err(Failure::new(format!("the backup ended with {status}")));
                }
                made.backups += 1;
                made.size = std::fs::metadata(&file).map_or(0, |file| file.len());
                std::fs::remove_file(&file).context("the backup cannot be removed")?;
            }
            made.seconds = watch.elapsed().as_secs_f64();
            Ok(made)
        });
        Self { stop, thread }
    }

    /// Waits for the one that is under way.
    pub(super) fn finish(self) -> Result<Made, Failure> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .map_err(|_| Failure::new("the thread of the backups fell"))?
    }
}
