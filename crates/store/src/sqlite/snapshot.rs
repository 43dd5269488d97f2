//! The bytes of an open task: JSON of all but its live credentials, and these in as few bytes as they take.
//!
//! A task may have thousands of credentials, each of which is three numbers. As JSON they were most
//! of a snapshot, and nearly all of what reading one cost. So a snapshot is a mark, the length of
//! the JSON, the JSON of the task in which no client has a credential, and then for each client the
//! number of its credentials and the credentials themselves. Numbers are little-endian. What was
//! written before (JSON alone, which begins with a brace) is still read (docs/decisions/0054).

use dayfly_domain::{Client, Credential, Digest, Task, Time};

/// The first byte of this form. No JSON begins so.
const MARK: u8 = 1;

/// How many bytes a credential takes: its number, its expiry, its hash.
const CREDENTIAL: usize = 4 + 8 + 32;

/// The bytes of a task's state. The task is as before when this returns; while its JSON is written
/// the credentials stand beside it.
pub(super) fn write(task: &mut Task) -> serde_json::Result<Box<[u8]>> {
    let listed: Vec<Vec<Credential>> = task
        .clients
        .iter_mut()
        .map(|client| std::mem::take(&mut client.credentials))
        .collect();
    let written = write_apart(task, &listed);
    for (client, credentials) in task.clients.iter_mut().zip(listed) {
        client.credentials = credentials;
    }
    written
}

fn write_apart(task: &Task, listed: &[Vec<Credential>]) -> serde_json::Result<Box<[u8]>> {
    let credentials: usize = listed.iter().map(Vec::len).sum();
    let mut bytes = Vec::with_capacity(1024 * (1 + listed.len()) + CREDENTIAL * credentials);
    bytes.push(MARK);
    bytes.extend([0; 4]);
    serde_json::to_writer(&mut bytes, task)?;
    let json = short(bytes.len() - 5)?;
    if let Some(length) = bytes.get_mut(1..5) {
        length.copy_from_slice(&json.to_le_bytes());
    }
    for credentials in listed {
        bytes.extend(short(credentials.len())?.to_le_bytes());
        for credential in credentials {
            bytes.extend(credential.number.to_le_bytes());
            bytes.extend(credential.expires.millis().to_le_bytes());
            bytes.extend(credential.hash.0);
        }
    }
    Ok(bytes.into())
}

fn short(length: usize) -> serde_json::Result<u32> {
    u32::try_from(length).map_err(|_| serde::ser::Error::custom("a task of more than 4 GiB"))
}

/// The task that these bytes are of, whichever form they have.
///
/// # Errors
/// Says what is wrong with them.
pub(super) fn read(bytes: &[u8]) -> Result<Task, String> {
    let parsed = |json| serde_json::from_slice::<Task>(json).map_err(|error| error.to_string());
    let Some((&MARK, rest)) = bytes.split_first() else {
        return parsed(bytes);
    };
    let cut = || "its bytes are cut off".to_owned();
    let (length, rest) = length(rest).ok_or_else(cut)?;
    let (json, mut rest) = rest.split_at_checked(length).ok_or_else(cut)?;
    let mut task = parsed(json)?;
    for client in &mut task.clients {
        rest = read_credentials(client, rest).ok_or_else(cut)?;
    }
    if rest.is_empty() {
        Ok(task)
    } else {
        Err("more follows its credentials".to_owned())
    }
}

/// Reads the credentials of a client; gives what follows them.
fn read_credentials<'b>(client: &mut Client, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let (count, rest) = length(bytes)?;
    let (listed, rest) = rest.split_at_checked(count.checked_mul(CREDENTIAL)?)?;
    let (listed, _) = listed.as_chunks::<CREDENTIAL>();
    client.credentials = listed.iter().map(read_credential).collect();
    Some(rest)
}

fn read_credential(bytes: &[u8; CREDENTIAL]) -> Credential {
    let [a, b, c, d, rest @ ..] = *bytes;
    let [e, f, g, h, i, j, k, l, hash @ ..] = rest;
    Credential {
        number: u32::from_le_bytes([a, b, c, d]),
        expires: Time::from_millis(u64::from_le_bytes([e, f, g, h, i, j, k, l])),
        hash: Digest(hash),
    }
}

/// A length, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*length)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state as it was written when all of it was JSON.
    const FORMER: &str = include_str!("snapshot/former.json");

    fn task() -> Task {
        serde_json::from_str(FORMER).unwrap()
    }

    #[test]
    fn there_and_back_and_the_task_is_as_before() {
        let mut written = task();
        let bytes = write(&mut written).unwrap();
        assert_eq!(written, task());
        assert_eq!(read(&bytes).unwrap(), task());
        let listed: usize = task().clients.iter().map(|c| c.credentials.len()).sum();
        assert_eq!((task().clients.len(), listed), (3, 3));
    }

    #[test]
    fn golden_bytes_are_written_and_read() {
        let bytes = write(&mut task()).unwrap();
        let (json, listed) = bytes[5..].split_at(bytes.len() - 5 - 3 * (4 + CREDENTIAL));
        assert_eq!(bytes[0], 1);
        assert_eq!(bytes[1..5], (json.len() as u32).to_le_bytes());
        let golden = include_str!("snapshot/golden.json").trim_end();
        assert_eq!(std::str::from_utf8(json).unwrap(), golden);
        let hex: String = listed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("snapshot/golden.hex").replace('\n', ""));
    }

    #[test]
    fn what_was_written_before_is_still_read() {
        assert_eq!(read(FORMER.trim_end().as_bytes()).unwrap(), task());
        assert!(FORMER.contains(r#""credentials":[{"number":1,"#));
    }

    #[test]
    fn bytes_that_are_cut_off_or_go_on_are_refused() {
        let bytes = write(&mut task()).unwrap();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end}");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
        // A number of credentials that no bytes could hold takes no room either.
        let mut many = bytes.to_vec();
        let first = many.len() - 3 * (4 + CREDENTIAL);
        many[first..first + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&many).is_err());
    }
}
