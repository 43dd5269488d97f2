//! Public ids: each carries the task it belongs to, in one accepted spelling.
//!
//! An id is an index into the record, never authority by itself.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::Spelled;
use crate::time::Time;

/// A task: 16 bytes of a UUIDv7 (RFC 9562, section 5.7), so that ids are in order of time.
/// Written `task_<26 characters of Crockford base32>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub [u8; 16]);

/// The `n`-th client of a task, written `client_<26>_<n>`; `n` counts from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    /// The task it lives in.
    pub task: TaskId,
    /// Its number within the task, from 1.
    pub number: u32,
}

/// The `m`-th credential of a client, written `cred_<26>_<n>_<m>`; the `jti` of its token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId {
    /// The client it was issued to.
    pub client: ClientId,
    /// Its number within the client, from 1.
    pub number: u32,
}

/// An explained refusal, written `ref_<26>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefusalId(pub [u8; 16]);

/// Why a text is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// It does not begin with the prefix of its kind.
    Prefix,
    /// Its base32 part has a wrong length, character or overflow.
    Base32,
    /// A number is missing, zero, has a leading zero or sign, or is too large.
    Number,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "the id does not begin as its kind does",
            Self::Base32 => "the id is not 26 characters of lower-case crockford base32",
            Self::Number => "the number in the id is not a plain count from 1",
        })
    }
}

impl core::error::Error for IdError {}

impl TaskId {
    /// Builds a UUIDv7 from a time in milliseconds and ten random bytes.
    #[must_use]
    pub fn new(millis: u64, random: [u8; 10]) -> Self {
        Self(uuid_v7(millis, random))
    }

    /// When it was made: when its task was asked for, however long that waited.
    #[must_use]
    pub const fn made(self) -> Time {
        let [t0, t1, t2, t3, t4, t5, ..] = self.0;
        Time::from_millis(u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]))
    }
}

impl RefusalId {
    /// Builds a UUIDv7 from a time in milliseconds and ten random bytes.
    #[must_use]
    pub fn new(millis: u64, random: [u8; 10]) -> Self {
        Self(uuid_v7(millis, random))
    }
}

fn uuid_v7(millis: u64, random: [u8; 10]) -> [u8; 16] {
    let [_, _, t0, t1, t2, t3, t4, t5] = millis.to_be_bytes();
    let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9] = random;
    [
        t0,
        t1,
        t2,
        t3,
        t4,
        t5,
        0x70 | (r0 & 0x0f),
        r1,
        0x80 | (r2 & 0x3f),
        r3,
        r4,
        r5,
        r6,
        r7,
        r8,
        r9,
    ]
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn write_base32(bytes: [u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = u128::from_be_bytes(bytes);
    let mut text = [0u8; 26];
    for (index, slot) in text.iter_mut().rev().enumerate() {
        let digit = (value >> (5 * index)) & 31;
        // INVARIANT: digit < 32, so the look-up always finds a character.
        *slot = ALPHABET.get(digit as usize).copied().unwrap_or(b'0');
    }
    f.write_str(core::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn parse_base32(text: &str) -> Result<[u8; 16], IdError> {
    if text.len() != 26 || !matches!(text.bytes().next(), Some(b'0'..=b'7')) {
        return Err(IdError::Base32);
    }
    let mut value = 0u128;
    for byte in text.bytes() {
        let digit = ALPHABET
            .iter()
            .position(|c| *c == byte)
            .ok_or(IdError::Base32)?;
        value = (value << 5) | digit as u128;
    }
    Ok(value.to_be_bytes())
}

fn parse_number(text: &str) -> Result<u32, IdError> {
    if !matches!(text.bytes().next(), Some(b'1'..=b'9')) {
        return Err(IdError::Number);
    }
    text.parse().map_err(|_| IdError::Number)
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("task_")?;
        write_base32(self.0, f)
    }
}

impl FromStr for TaskId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix("task_").ok_or(IdError::Prefix)?;
        parse_base32(rest).map(Self)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("client_")?;
        write_base32(self.task.0, f)?;
        write!(f, "_{}", self.number)
    }
}

impl FromStr for ClientId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix("client_").ok_or(IdError::Prefix)?;
        let (task, number) = rest.split_once('_').ok_or(IdError::Number)?;
        Ok(Self {
            task: TaskId(parse_base32(task)?),
            number: parse_number(number)?,
        })
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cred_")?;
        write_base32(self.client.task.0, f)?;
        write!(f, "_{}_{}", self.client.number, self.number)
    }
}

impl FromStr for CredentialId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix("cred_").ok_or(IdError::Prefix)?;
        let (task, numbers) = rest.split_once('_').ok_or(IdError::Number)?;
        let (client, number) = numbers.split_once('_').ok_or(IdError::Number)?;
        Ok(Self {
            client: ClientId {
                task: TaskId(parse_base32(task)?),
                number: parse_number(client)?,
            },
            number: parse_number(number)?,
        })
    }
}

impl fmt::Display for RefusalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ref_")?;
        write_base32(self.0, f)
    }
}

impl FromStr for RefusalId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix("ref_").ok_or(IdError::Prefix)?;
        parse_base32(rest).map(Self)
    }
}

macro_rules! as_text {
    ($($id:ty),*) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Spelled::new())
            }
        }
    )*};
}

as_text!(TaskId, ClientId, CredentialId, RefusalId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn one_spelling_only() {
        let id = TaskId::new(1_795_287_689_123, [7; 10]);
        let text = id.to_string();
        assert_eq!(text.len(), 31);
        assert_eq!(text.parse::<TaskId>(), Ok(id));
        assert_eq!(text.to_uppercase().parse::<TaskId>(), Err(IdError::Prefix));
        assert!("task_8zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<TaskId>().is_err());
        assert!("task_0000000000000000000000000l".parse::<TaskId>().is_err());
        for bad in ["0", "01", "+1", "", "4294967296"] {
            let text = id.to_string().replace("task_", "client_") + "_" + bad;
            assert_eq!(text.parse::<ClientId>(), Err(IdError::Number), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes: [u8; 16], n in 1u32.., m in 1u32..) {
            let client = ClientId { task: TaskId(bytes), number: n };
            let credential = CredentialId { client, number: m };
            prop_assert_eq!(credential.to_string().parse(), Ok(credential));
            prop_assert_eq!(client.to_string().parse(), Ok(client));
            prop_assert_eq!(RefusalId(bytes).to_string().parse(), Ok(RefusalId(bytes)));
        }

        #[test]
        fn order_of_text_is_order_of_time(a: [u8; 16], b: [u8; 16]) {
            prop_assert_eq!(TaskId(a).cmp(&TaskId(b)), TaskId(a).to_string().cmp(&TaskId(b).to_string()));
        }
    }
}
