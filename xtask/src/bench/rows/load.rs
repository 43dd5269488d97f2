//! The load generator: HTTP/1.1 over connections that stay open, requests rendered before, answers read as far as needed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::clock::Watch;
use super::failure::{Context, Failure};

/// Requests, and what their answers must be.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<Vec<Vec<u8>>>,
    /// Text that the body of every good answer holds.
    pub(super) holds: &'static str,
    /// Whether the bodies are kept.
    pub(super) keeps: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Fired {
    pub(super) elapsed: Duration,
    /// Microseconds from writing a request to the last byte of its good answer, sorted.
    latencies: Vec<u32>,
    /// When each of those was to be sent, where they were sent at an even pace.
    sent: Vec<(Duration, u32)>,
    /// The bodies of good answers with the numbers of their requests, where they were kept.
    pub(super) bodies: Vec<(usize, Vec<u8>)>,
    /// Answers that were not good.
    pub(super) bad: Vec<Bad>,
}

/// An answer that was not good.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Fired {
    /// How many answers were good.
    pub(super) fn good(&self) -> usize {
        self.latencies.len()
    }

    /// Good answers a second.
    pub(super) fn rate(&self) -> f64 {
        self.good() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency in milliseconds that this share of the good answers stayed within.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let at = (self.good() as f64 * share) as usize;
        let found = self.latencies.get(at).or(self.latencies.last());
        f64::from(found.copied().unwrap_or(0)) / 1000.0
    }

    /// What was to be sent between two moments after the start, of requests at an even pace.
    pub(super) fn between(&self, from: Duration, until: Duration) -> Self {
        let within =
            |(at, micros): &(Duration, u32)| (from <= *at && *at < until).then_some(*micros);
        let mut latencies: Vec<u32> = self.sent.iter().filter_map(within).collect();
        latencies.sort_unstable();
        Self {
            elapsed: until.saturating_sub(from),
            latencies,
            ..Self::default()
        }
    }

    /// An error when any answer was not good: a bench of wrong answers measures nothing.
    pub(super) fn demand_good(&self, what: &str) -> Result<(), Failure> {
        match self.bad.first() {
            None => Ok(()),
            Some(first) => Err(Failure::new(format!(
                "{what}: {} of {} answers were wrong; the first: {} {}",
                self.bad.len(),
                self.bad.len() + self.good(),
                first.status,
                first.body
            ))),
        }
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.sent.extend(other.sent);
        self.bodies.extend(other.bodies);
        self.bad.extend(other.bad);
    }
}

/// Requests at an even pace, however long their answers take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paced {
    pub(super) every: Duration,
    pub(super) connections: usize,
}

impl Paced {
    /// How many requests there are in this time.
    pub(super) fn requests_in(self, time: Duration) -> u64 {
        u64::try_from(time.as_micros() / self.every.as_micros().max(1)).unwrap_or(u64::MAX)
    }
}

/// When a connection sends its next request.
#[derive(Clone, Copy)]
enum Pace {
    /// As soon as it has its answer.
    Eager,
    /// Each request at its own time from the start, late ones at once; how late it is counts as
    /// time that its answer took.
    Even { every: Duration },
}

impl Load {
    /// Sends every request once, each connection the next one as soon as it has its answer.
    pub(super) fn fire(&self, connections: usize) -> Result<Fired, Failure> {
        self.fire_so(connections, Pace::Eager)
    }

    /// Sends every request once, at an even pace.
    pub(super) fn fire_paced(&self, pace: Paced) -> Result<Fired, Failure> {
        let Paced { every, connections } = pace;
        self.fire_so(connections, Pace::Even { every })
    }

    fn fire_so(&self, connections: usize, pace: Pace) -> Result<Fired, Failure> {
        // One thread: on few cores a second one would only take time from the server.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no runtime")?;
        runtime.block_on(self.fire_all(connections, pace))
    }

    async fn fire_all(&self, connections: usize, pace: Pace) -> Result<Fired, Failure> {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(self.address)
                .await
                .context("cannot connect")?;
            stream.set_nodelay(true).context("cannot connect")?;
            streams.push(stream);
        }
        let next = Arc::new(AtomicUsize::new(0));
        let mut running = JoinSet::new();
        let watch = Watch::start();
        for stream in streams {
            running.spawn(self.clone().on(stream, Arc::clone(&next), watch, pace));
        }
        let mut fired = Fired::default();
        while let Some(done) = running.join_next().await {
            fired.add(done.context("a connection broke off")??);
        }
        fired.elapsed = watch.elapsed();
        fired.latencies.sort_unstable();
        Ok(fired)
    }

    async fn on(
        self,
        mut stream: TcpStream,
        next: Arc<AtomicUsize>,
        start: Watch,
        pace: Pace,
    ) -> Result<Fired, Failure> {
        let mut fired = Fired::default();
        let mut buffer = Vec::with_capacity(16 * 1024);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = self.requests.get(number) else {
                return Ok(fired);
            };
            let (at, watch) = pace.wait(number, start).await;
            stream
                .write_all(request)
                .await
                .context("a request cannot be sent")?;
            let (status, body) = answer(&mut stream, &mut buffer).await?;
            let late = watch.micros();
            let micros = at.map_or(late, |at| start.micros_since(at));
            if status != 200 || !contains(body, self.holds.as_bytes()) {
                fired.bad.push(Bad {
                    status,
                    body: String::from_utf8_lossy(body).into_owned(),
                });
                continue;
            }
            fired.latencies.push(micros);
            if let Some(at) = at {
                fired.sent.push((at, micros));
            }
            if self.keeps {
                fired.bodies.push((number, body.to_vec()));
            }
        }
    }
}

impl Pace {
    /// Waits until a request is to be sent; gives its time from the start where it has one.
    async fn wait(self, number: usize, start: Watch) -> (Option<Duration>, Watch) {
        match self {
            Self::Eager => (None, Watch::start()),
            Self::Even { every } => {
                let at = every.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
                tokio::time::sleep(at.saturating_sub(start.elapsed())).await;
                (Some(at), Watch::start())
            }
        }
    }
}

/// Sends one request and reads its answer.
pub(super) fn ask(address: SocketAddr, request: &[u8]) -> Result<(u16, String), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(async {
        let mut stream = TcpStream::connect(address)
            .await
            .context("cannot connect")?;
        stream
            .write_all(request)
            .await
            .context("a request cannot be sent")?;
        let mut buffer = Vec::new();
        let (status, body) = answer(&mut stream, &mut buffer).await?;
        Ok((status, String::from_utf8_lossy(body).into_owned()))
    })
}

/// A GET of this path.
pub(super) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// A POST of a form.
pub(super) fn post(path: &str, headers: &str, form: &str) -> Vec<u8> {
    post_as("application/x-www-form-urlencoded", path, headers, form)
}

/// The same of another media type.
pub(super) fn post_as(media: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\
         content-type: {media}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn answer<'b>(
    stream: &mut TcpStream,
    buffer: &'b mut Vec<u8>,
) -> Result<(u16, &'b [u8]), Failure> {
    buffer.clear();
    let mut head = None;
    loop {
        if stream.read_buf(buffer).await.context("no answer")? == 0 {
            return Err(Failure::new("the server hung up"));
        }
        if head.is_none() {
            head = Head::read(buffer)?;
        }
        if let Some(head) = &head
            && buffer.len() >= head.end
        {
            break;
        }
    }
    let head = head.context("no head of an answer")?;
    let body = buffer.get(head.begin..head.end).unwrap_or_default();
    Ok((head.status, body))
}

/// What is read of the head of an answer.
struct Head {
    status: u16,
    /// Where the body begins and ends.
    begin: usize,
    end: usize,
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text =
            std::str::from_utf8(bytes.get(..at).unwrap_or_default()).context("an odd head")?;
        let status = text
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .context("an odd head")?;
        let length: usize = text
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .context("an answer without a length")?;
        Ok(Some(Self {
            status,
            begin: at + 4,
            end: at + 4 + length,
        }))
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|part| part == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_where_the_body_lies() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert!(Head::read(text.get(..30).unwrap()).unwrap().is_none());
        let head = Head::read(text).unwrap().unwrap();
        assert_eq!(
            (head.status, text.get(head.begin..head.end)),
            (200, Some(&b"ok"[..]))
        );
        assert!(Head::read(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn what_was_sent_at_a_time_is_found_by_it() {
        let second = Duration::from_secs;
        let fired = Fired {
            sent: (0..10)
                .map(|n| (second(n), 1000 * (10 - n as u32)))
                .collect(),
            ..Fired::default()
        };
        let found = fired.between(second(2), second(5));
        assert_eq!(found.latencies, [6000, 7000, 8000]);
        assert_eq!(fired.between(second(10), second(20)).good(), 0);
        let pace = Paced {
            every: Duration::from_millis(10),
            connections: 1,
        };
        assert_eq!(pace.requests_in(second(2)), 200);
    }

    #[test]
    fn quantiles_are_of_good_answers() {
        let fired = Fired {
            latencies: (1..=100).map(|n| n * 1000).collect(),
            ..Fired::default()
        };
        assert_eq!(fired.quantile(0.5), 51.0);
        assert_eq!(fired.quantile(0.99), 100.0);
        assert_eq!(Fired::default().quantile(0.5), 0.0);
    }
}
