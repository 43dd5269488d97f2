//! Any other platform's webhook: `{"claims": {…}, "outcome": "…"}`, the claims being those that name the run in a proof.

use dayfly_domain::{Claims, Refusal, Rule};
use dayfly_token::claims::text_of;
use serde_json::{Map, Value};

use super::{Over, word};

/// Most claims of a webhook.
const MAX_CLAIMS: usize = 32;

/// Reads what is over. What it does not know it refuses: a misspelt member would name another run.
pub(super) fn read(body: &Map<String, Value>) -> Result<Over, Refusal> {
    let refused = |field: &str, got: &str| {
        Refusal::new(Rule::Invalid)
            .field(field)
            .wanted("{\"claims\": {\"<claim>\": \"<value>\"}, \"outcome\": \"<word>\"}")
            .got(got)
    };
    if let Some(other) = body
        .keys()
        .find(|name| !matches!(name.as_str(), "claims" | "outcome"))
    {
        return Err(refused(other, "an unknown member"));
    }
    let claims = body.get("claims").and_then(Value::as_object);
    let claims = claims.ok_or_else(|| refused("claims", "no object of claims"))?;
    if claims.is_empty() || claims.len() > MAX_CLAIMS {
        return Err(refused("claims", &format!("{} claims", claims.len())));
    }
    let texts = claims.iter().map(|(name, value)| {
        let text = text_of(value).filter(|text| (1..=256).contains(&text.len()));
        let text =
            text.ok_or_else(|| refused(name, "neither text nor number of 1 to 256 bytes"))?;
        Ok((name.clone(), text.into_owned()))
    });
    let said = match body.get("outcome") {
        None => "over".to_owned(),
        Some(Value::String(_)) => format!("over: {}", word(body, "outcome")),
        Some(_) => return Err(refused("outcome", "no text")),
    };
    Ok(Over {
        claims: texts.collect::<Result<Claims, _>>()?,
        job: None,
        jobs: Vec::new(),
        said,
    })
}
