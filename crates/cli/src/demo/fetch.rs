//! Sends one request the way curl would: the stand-in for machines without it, knowing what the demo's jobs use.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use url::Url;

use crate::http::{CALL_TIMEOUT, Clients};

/// A request as a curl command says it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    url: Option<String>,
    method: Option<String>,
    headers: Vec<(String, String)>,
    data: Option<Vec<u8>>,
    output: Option<String>,
    write_out: Option<String>,
}

/// Sends the request and prints the answer.
pub(super) async fn fetch(words: &[String]) -> Result<ExitCode> {
    let words = Words::read(words)?;
    let url = Url::parse(&words.url.context("no URL")?).context("not a URL")?;
    let method = match (words.method, &words.data) {
        (Some(method), _) => Method::from_bytes(method.as_bytes())?,
        (None, Some(_)) => Method::POST,
        (None, None) => Method::GET,
    };
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let mut request = clients.of(&url).request(method, url).timeout(CALL_TIMEOUT);
    for (name, value) in words.headers {
        request = request.header(name, value);
    }
    if let Some(data) = words.data {
        request = request.body(data);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16().to_string();
    let body = answer.bytes().await?;
    let mut stdout = std::io::stdout().lock();
    match words.output {
        Some(path) => std::fs::write(path, &body)?,
        None => stdout.write_all(&body)?,
    }
    if let Some(format) = words.write_out {
        let text = format.replace("%{http_code}", &status).replace("\\n", "\n");
        stdout.write_all(text.as_bytes())?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

impl Words {
    fn read(words: &[String]) -> Result<Self> {
        let mut read = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut next = || {
                words
                    .next()
                    .with_context(|| format!("nothing follows {word}"))
            };
            match word.as_str() {
                "-s" | "-S" | "-sS" => {}
                "-X" => read.method = Some(next()?.clone()),
                "-H" => {
                    let (name, value) = next()?.split_once(':').context("a header has no colon")?;
                    let header = (name.trim().to_owned(), value.trim().to_owned());
                    read.headers.push(header);
                }
                "-d" | "--data-binary" => read.data = Some(data(next()?)?),
                "-T" => {
                    read.data = Some(data(&format!("@{}", next()?))?);
                    read.method = Some("PUT".to_owned());
                }
                "-o" => read.output = Some(next()?.clone()),
                "-w" => read.write_out = Some(next()?.clone()),
                option if option.starts_with('-') => {
                    bail!("the stand-in for curl knows no {option}")
                }
                url => read.url = Some(url.to_owned()),
            }
        }
        Ok(read)
    }
}

/// The text itself, or with `@` in front the content of a file.
fn data(word: &str) -> Result<Vec<u8>> {
    match word.strip_prefix('@') {
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {path}")),
        None => Ok(word.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_scripts_are_understood() {
        let words = [
            "-sS",
            "-w",
            "%{http_code}\\n",
            "-X",
            "PUT",
            "-H",
            "A: b:c",
            "-d",
            "x",
            "http://u",
        ];
        let words: Vec<String> = words.map(str::to_owned).to_vec();
        let read = Words::read(&words).unwrap();
        assert_eq!(read.url.as_deref(), Some("http://u"));
        assert_eq!(read.method.as_deref(), Some("PUT"));
        assert_eq!(read.headers, [("A".to_owned(), "b:c".to_owned())]);
        assert_eq!(read.data.as_deref(), Some(b"x".as_slice()));
        assert!(Words::read(&["-z".to_owned()]).is_err());
        assert!(Words::read(&["-X".to_owned()]).is_err());
    }
}
