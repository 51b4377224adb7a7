//! `import-swanctl`: a swanctl directory written as our TOML.

use crate::{Answer, Failure};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::Path;
use xswan_swanctl::{Imported, Note};
use zeroize::Zeroizing;

/// Written where there is no base.
const HEAD: &str = "# Add [cores] and [[device]] below the first line, or import with --base.\n";

fn refused(error: xswan_config::ConfigError) -> Failure {
    Failure::said(error.to_string())
}

/// The translation, with the base if there is one.
fn translate(
    directory: &Path,
    base: Option<&Path>,
) -> Result<(Zeroizing<String>, Vec<Note>), Failure> {
    match base {
        Some(base) => xswan_swanctl::merged_toml(directory, base).map_err(refused),
        None => {
            let Imported { toml, notes, .. } =
                xswan_swanctl::to_toml(directory).map_err(refused)?;
            let mut text = Zeroizing::new(String::with_capacity(HEAD.len() + toml.len()));
            text.push_str(HEAD);
            text.push_str(&toml);
            Ok((text, notes))
        }
    }
}

/// The owner's alone from the beginning: there may be secrets in it.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(false).mode(0o600).open(file)?;
    opened.set_permissions(PermissionsExt::from_mode(0o600))?;
    opened.set_len(0)?;
    opened.write_all(text.as_bytes())
}

pub(crate) fn run(
    directory: &Path,
    base: Option<&Path>,
    output: Option<&Path>,
) -> Result<Answer, Failure> {
    let (text, notes) = translate(directory, base)?;
    let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
    let Some(output) = output else {
        let value = json!({ "toml": text.as_str(), "notes": notes });
        return Ok(Answer { notes, ..Answer::new(value, text.to_string()) });
    };
    write(output, &text)
        .map_err(|error| Failure::said(format!("{}: {error}", output.display())))?;
    let shown = format!("written: {}\n", output.display());
    Ok(Answer { notes: notes.clone(), ..Answer::new(json!({ "notes": notes }), shown) })
}
