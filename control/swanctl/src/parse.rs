//! The language of strongSwan's settings files.
//!
//! ```text
//! connections {
//!   gw : defaults {            # inherits from the section "defaults"
//!     local_addrs = 192.0.2.1  # up to the end of the line, a comment or a brace
//!     local { auth = psk
//!             id = "C=CH, O=x" }
//!   }
//! }
//! include conf.d/*.conf
//! ```
//!
//! May assume nothing of the text; nesting, includes and sizes are bounded.

use crate::glob::expand;
use crate::tree::{Spot, Tree, Value};
use std::io::Read as _;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::Chars;
use xswan_config::ConfigError;
use zeroize::Zeroizing;

/// Octets of all files together.
const TEXT_MAX: usize = 16 << 20;
/// Sections in sections.
const DEPTH_MAX: usize = 32;
/// Files that include files.
const INCLUDE_MAX: usize = 10;
/// All files together.
const FILES_MAX: usize = 1000;

/// What is kept while files are read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    octets: usize,
    files: usize,
    /// Places and texts of what is worth a note.
    pub(crate) notes: Vec<(Spot, String)>,
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    file: Rc<str>,
    line: usize,
    directory: PathBuf,
    includes: usize,
}

/// Reads a file and all that it includes.
pub(crate) fn read_file(path: &Path, reading: &mut Reading) -> Result<Tree, ConfigError> {
    let file: Rc<str> = path.display().to_string().into();
    let mut tree = Tree::new(Spot { file, line: 1 });
    let spot = Spot { file: path.display().to_string().into(), line: 0 };
    include_file(path, &spot, 0, reading, &mut tree, 0)?;
    Ok(tree)
}

/// Reads a text; what it includes is relative to `directory`.
pub(crate) fn read_text(
    file: &str,
    text: &str,
    directory: &Path,
    reading: &mut Reading,
) -> Result<Tree, ConfigError> {
    let spot = Spot { file: file.into(), line: 1 };
    let mut tree = Tree::new(spot.clone());
    let mut parser = Parser {
        rest: text.chars().peekable(),
        file: spot.file,
        line: 1,
        directory: directory.to_owned(),
        includes: 0,
    };
    parser.body(&mut tree, None, 0, reading)?;
    Ok(tree)
}

fn include_file(
    path: &Path,
    spot: &Spot,
    includes: usize,
    reading: &mut Reading,
    tree: &mut Tree,
    depth: usize,
) -> Result<(), ConfigError> {
    let failed = |what: String| spot.error("", format!("{}: {what}", path.display()));
    reading.files += 1;
    if reading.files > FILES_MAX {
        return Err(failed(format!("more than {FILES_MAX} files")));
    }
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("is not a regular file".to_owned()));
    }
    // Room for all of it at once: growing would leave copies of secrets behind.
    let room = metadata.len().min(TEXT_MAX as u64) as usize + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    let octets = file.take(room as u64).read_to_string(&mut text);
    reading.octets += octets.map_err(|error| failed(error.to_string()))?;
    if reading.octets > TEXT_MAX {
        return Err(failed(format!("more than {TEXT_MAX} octets in all")));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut parser = Parser {
        rest: text.chars().peekable(),
        file: path.display().to_string().into(),
        line: 1,
        directory: parent.unwrap_or(Path::new(".")).to_owned(),
        includes,
    };
    parser.body(tree, None, depth, reading)
}

/// Ends a name.
fn delimits(c: char) -> bool {
    c.is_whitespace() || matches!(c, '#' | '{' | '}' | '=' | ':' | ',' | '"')
}

impl Parser<'_> {
    fn spot(&self) -> Spot {
        Spot { file: Rc::clone(&self.file), line: self.line }
    }

    fn error(&self, what: impl Into<String>) -> ConfigError {
        self.spot().error("", what)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next();
        self.line += usize::from(c == Some('\n'));
        c
    }

    /// Leaves a character behind that has been looked at.
    fn pass(&mut self) {
        let _known = self.next();
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn skip_comment(&mut self) {
        while self.rest.next_if(|c| *c != '\n').is_some() {}
    }

    /// White space on the line.
    fn skip_blanks(&mut self) {
        while self.rest.next_if(|c| *c != '\n' && c.is_whitespace()).is_some() {}
    }

    /// White space, newlines and comments.
    fn skip(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                '#' => self.skip_comment(),
                c if c.is_whitespace() => self.pass(),
                _ => return,
            }
        }
    }

    /// The content of a section up to its brace, or of a file up to its end.
    fn body(
        &mut self,
        tree: &mut Tree,
        opened: Option<(&str, usize)>,
        depth: usize,
        reading: &mut Reading,
    ) -> Result<(), ConfigError> {
        loop {
            self.skip();
            match (self.peek(), opened) {
                (None, None) => return Ok(()),
                (None, Some((name, line))) => {
                    return Err(
                        self.error(format!("section {name:?} of line {line} is not closed"))
                    );
                }
                (Some('}'), Some(_)) => {
                    self.pass();
                    return Ok(());
                }
                (Some('}'), None) => return Err(self.error("a brace closes what is not open")),
                (Some(_), _) => self.statement(tree, depth, reading)?,
            }
        }
    }

    fn statement(
        &mut self,
        tree: &mut Tree,
        depth: usize,
        reading: &mut Reading,
    ) -> Result<(), ConfigError> {
        let spot = self.spot();
        let quoted = self.peek() == Some('"');
        let name = self.name()?;
        self.skip_blanks();
        let include = name.as_str() == "include" && !quoted;
        if include && !matches!(self.peek(), Some('=' | '{' | ':')) {
            return self.include(&spot, tree, depth, reading);
        }
        // A brace may stand on the next line.
        self.skip();
        match self.peek() {
            Some('=') => {
                self.pass();
                let text = self.value()?;
                tree.set(name.to_string(), Value { text, spot });
                Ok(())
            }
            Some('{' | ':') => self.section(&name, &spot, tree, depth, reading),
            _ => Err(spot.error(&name, "neither a value nor a section follows")),
        }
    }

    fn section(
        &mut self,
        name: &str,
        spot: &Spot,
        tree: &mut Tree,
        depth: usize,
        reading: &mut Reading,
    ) -> Result<(), ConfigError> {
        if depth >= DEPTH_MAX {
            return Err(spot.error(name, format!("more than {DEPTH_MAX} sections deep")));
        }
        let mut references = Vec::new();
        if self.rest.next_if_eq(&':').is_some() {
            loop {
                self.skip();
                let spot = self.spot();
                references.push((self.name()?.to_string(), spot));
                self.skip();
                if self.rest.next_if_eq(&',').is_none() {
                    break;
                }
            }
        }
        if self.rest.next_if_eq(&'{').is_none() {
            return Err(spot.error(name, "no brace follows"));
        }
        let Some(section) = tree.open(name, spot) else { return Ok(()) };
        section.references.extend(references);
        self.body(section, Some((name, spot.line)), depth + 1, reading)
    }

    fn include(
        &mut self,
        spot: &Spot,
        tree: &mut Tree,
        depth: usize,
        reading: &mut Reading,
    ) -> Result<(), ConfigError> {
        let pattern = if self.peek() == Some('"') {
            self.quoted()?
        } else {
            let mut pattern = Zeroizing::new(String::new());
            while let Some(c) = self.rest.next_if(|c| !matches!(c, '\n' | '#' | '}')) {
                pattern.push(c);
            }
            pattern
        };
        let pattern = pattern.trim();
        if pattern.is_empty() {
            return Err(spot.error("include", "no file follows"));
        }
        if self.includes >= INCLUDE_MAX {
            return Err(spot.error("include", format!("more than {INCLUDE_MAX} files deep")));
        }
        let files = expand(&self.directory, pattern);
        let files = files.map_err(|what| spot.error("include", format!("{pattern:?}: {what}")))?;
        if files.is_empty() {
            reading.notes.push((spot.clone(), format!("include {pattern:?}: no such file")));
        }
        for file in files {
            include_file(&file, spot, self.includes + 1, reading, tree, depth)?;
        }
        Ok(())
    }

    fn name(&mut self) -> Result<Zeroizing<String>, ConfigError> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let mut name = Zeroizing::new(String::new());
        while let Some(c) = self.rest.next_if(|c| !delimits(*c)) {
            name.push(c);
        }
        match self.peek() {
            _ if !name.is_empty() => Ok(name),
            Some(c) => Err(self.error(format!("a name is missing before {c:?}"))),
            None => Err(self.error("a name is missing at the end")),
        }
    }

    /// Words up to the end of the line, a comment or a closing brace, one space between them.
    fn value(&mut self) -> Result<Zeroizing<String>, ConfigError> {
        let mut text = Zeroizing::new(String::new());
        loop {
            self.skip_blanks();
            let word = match self.peek() {
                None | Some('\n' | '#' | '}') => return Ok(text),
                Some('{') => return Err(self.error("a brace in a value needs quotes around it")),
                Some('"') => self.quoted()?,
                Some(_) => {
                    let ends = |c: char| c.is_whitespace() || matches!(c, '#' | '{' | '}' | '"');
                    let mut word = Zeroizing::new(String::new());
                    while let Some(c) = self.rest.next_if(|c| !ends(*c)) {
                        word.push(c);
                    }
                    word
                }
            };
            if !text.is_empty() && !word.is_empty() {
                text.push(' ');
            }
            text.push_str(&word);
        }
    }

    /// A string in quotation marks, which may hold newlines and escapes.
    fn quoted(&mut self) -> Result<Zeroizing<String>, ConfigError> {
        let start = self.spot();
        let unclosed = || start.error("", "a string is not closed");
        self.pass();
        let mut text = Zeroizing::new(String::new());
        loop {
            match self.next().ok_or_else(unclosed)? {
                '"' => return Ok(text),
                '\\' => match self.next().ok_or_else(unclosed)? {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    // The line goes on.
                    '\n' => {}
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
    }
}
