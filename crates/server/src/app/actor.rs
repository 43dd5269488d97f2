//! Who asks for a change and why, as entries keep it: in clear in the annex, as a salted hash in the leaf.

use dayfly_domain::Digest;
use dayfly_store::Annex;
use dayfly_token::b64;
use dayfly_token::hash::sha256_of_parts;
use serde_json::{Value, json};

use crate::random::{self, NoRandomness};

/// Who asks for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Somebody at the admin socket, which is for the user of the server and for root.
    Local {
        /// The user id of the peer.
        uid: u32,
    },
    /// A person whom the provider of the operators vouches for.
    Person {
        /// The provider, the `iss` of the token.
        iss: String,
        /// The person, the `sub` of the token.
        sub: String,
    },
}

/// Who and why, ready to stand in the entries of one change.
#[derive(Clone, Debug)]
pub(super) struct Signature {
    annex: Value,
    by: Option<Digest>,
}

impl Signature {
    /// Draws the salt under which a person stands in the leaves of this change.
    pub(super) fn of(actor: &Actor, reason: &str) -> Result<Self, NoRandomness> {
        let (who, by) = match actor {
            Actor::Local { uid } => (json!({ "uid": uid }), None),
            Actor::Person { iss, sub } => {
                let salt: [u8; 16] = random::bytes()?;
                let who = json!({ "iss": iss, "sub": sub, "salt": b64::encode(salt) });
                (who, Some(person_hash(&salt, iss, sub)))
            }
        };
        Ok(Self {
            annex: json!({ "by": who, "reason": reason }),
            by,
        })
    }

    /// The annex of an entry: who, in clear, and why.
    pub(super) fn annex(&self) -> Result<Annex, NoRandomness> {
        Ok(Annex {
            salt: random::bytes()?,
            data: self.annex.to_string(),
        })
    }

    /// What stands in the annex.
    pub(super) const fn json(&self) -> &Value {
        &self.annex
    }

    /// The person as a leaf may hold one; none for a user id, which only the annex holds.
    pub(super) const fn by(&self) -> Option<Digest> {
        self.by
    }

    /// The data of an entry with the person in it.
    pub(super) fn sign(&self, mut data: Value) -> String {
        if let (Value::Object(members), Some(by)) = (&mut data, self.by) {
            members.insert("by".to_owned(), by.to_string().into());
        }
        data.to_string()
    }
}

/// A person in a leaf: SHA-256 of the salt, the length of `iss` in eight bytes, `iss` and `sub`.
/// The salt stands in the annex alone, so that nobody can try names once the annex is erased.
pub(super) fn person_hash(salt: &[u8; 16], iss: &str, sub: &str) -> Digest {
    let length = (iss.len() as u64).to_be_bytes();
    Digest(sha256_of_parts(&[
        salt,
        &length,
        iss.as_bytes(),
        sub.as_bytes(),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mona() -> Actor {
        Actor::Person {
            iss: "https://idp.example".to_owned(),
            sub: "mona".to_owned(),
        }
    }

    #[test]
    fn a_person_stands_in_the_leaf_by_a_hash_whose_salt_is_in_the_annex() {
        let signed = Signature::of(&mona(), "leaked").unwrap();
        let leaf = signed.sign(json!({"on": "tenant"}));
        assert!(!leaf.contains("mona") && !leaf.contains("idp.example"));
        let annex: Value = serde_json::from_str(&signed.annex().unwrap().data).unwrap();
        assert_eq!(annex["by"]["sub"], "mona");
        assert_eq!(annex["reason"], "leaked");
        let salt = b64::decode_array(annex["by"]["salt"].as_str().unwrap()).unwrap();
        let hash = person_hash(&salt, "https://idp.example", "mona");
        assert_eq!(signed.by(), Some(hash));
        assert!(leaf.contains(&hash.to_string()));
        let again = Signature::of(&mona(), "leaked").unwrap();
        assert_ne!(
            again.by(),
            signed.by(),
            "two changes tell nobody who made both"
        );
    }

    #[test]
    fn the_joint_of_issuer_and_subject_cannot_be_moved() {
        let hash = |iss, sub| person_hash(&[7; 16], iss, sub);
        assert_ne!(hash("https://a/b", "c"), hash("https://a/", "bc"));
    }

    #[test]
    fn a_user_id_stands_in_the_annex_alone() {
        let signed = Signature::of(&Actor::Local { uid: 7 }, "due").unwrap();
        assert_eq!(signed.sign(json!({"on": "tenant"})), r#"{"on":"tenant"}"#);
        assert_eq!(
            signed.json().to_string(),
            r#"{"by":{"uid":7},"reason":"due"}"#
        );
    }
}
