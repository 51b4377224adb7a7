//! What a settings file says: sections in sections, keys with values, references.

use std::fmt;
use std::rc::Rc;
use xswan_config::ConfigError;
use zeroize::Zeroizing;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) file: Rc<str>,
    pub(crate) line: usize,
}

impl Spot {
    pub(crate) fn error(&self, key: &str, what: impl Into<String>) -> ConfigError {
        let single_line = |text: String| text.replace(char::is_control, "?");
        ConfigError {
            file: self.file.to_string(),
            line: self.line,
            column: 1,
            key: single_line(key.to_owned()),
            what: single_line(what.into()),
            allowed: String::new(),
        }
    }
}

/// A value, which may be a secret. Empty stands for "not set", also over what is inherited.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) text: Zeroizing<String>,
    pub(crate) spot: Spot,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value(redacted, {}:{})", self.spot.file, self.spot.line)
    }
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) spot: Spot,
    pub(crate) values: Vec<(String, Value)>,
    pub(crate) sections: Vec<(String, Tree)>,
    /// Full names of sections that this one inherits from.
    pub(crate) references: Vec<(String, Spot)>,
}

/// A chain of references longer than this goes in a circle.
const CHAIN_MAX: usize = 16;
/// Sections and values after inheritance: references can multiply what is written.
const NODES_MAX: usize = 200_000;

impl Tree {
    pub(crate) fn new(spot: Spot) -> Self {
        Self { spot, values: Vec::new(), sections: Vec::new(), references: Vec::new() }
    }

    /// Sets a value; a later one replaces an earlier one.
    pub(crate) fn set(&mut self, name: String, value: Value) {
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name, value)),
        }
    }

    /// The section of a name; one that is opened again goes on.
    pub(crate) fn open(&mut self, name: &str, spot: &Spot) -> Option<&mut Tree> {
        if self.section(name).is_none() {
            self.sections.push((name.to_owned(), Tree::new(spot.clone())));
        }
        self.sections.iter_mut().find(|(known, _)| known == name).map(|(_, tree)| tree)
    }

    pub(crate) fn section(&self, name: &str) -> Option<&Tree> {
        self.sections.iter().find(|(known, _)| known == name).map(|(_, tree)| tree)
    }

    /// The text of a value that is set.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let value = self.values.iter().find(|(known, _)| known == name);
        value.map(|(_, value)| value.text.as_str()).filter(|text| !text.is_empty())
    }

    fn path(&self, name: &str) -> Option<&Tree> {
        name.split('.').try_fold(self, |tree, part| tree.section(part))
    }

    /// Takes over another's values and sections; the other's win.
    fn overlay(&mut self, other: Tree) {
        for (name, value) in other.values {
            self.set(name, value);
        }
        for (name, tree) in other.sections {
            match self.sections.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => {
                    known.spot = tree.spot.clone();
                    known.overlay(tree);
                }
                None => self.sections.push((name, tree)),
            }
        }
    }

    /// The tree with everything that is referred to in its place.
    pub(crate) fn inherited(&self) -> Result<Tree, ConfigError> {
        let mut nodes = 0;
        self.expand(self, 0, &mut nodes)
    }

    fn expand(&self, root: &Tree, chain: usize, nodes: &mut usize) -> Result<Tree, ConfigError> {
        *nodes += 1 + self.values.len();
        if *nodes > NODES_MAX {
            return Err(self.spot.error("", "inherits too much"));
        }
        let mut tree = Tree::new(self.spot.clone());
        for (name, spot) in &self.references {
            if chain >= CHAIN_MAX {
                return Err(spot.error(name, "the reference goes in a circle"));
            }
            let target = root.path(name);
            let target = target.ok_or_else(|| spot.error(name, "there is no such section"))?;
            tree.overlay(target.expand(root, chain + 1, nodes)?);
        }
        let mut own = Tree::new(self.spot.clone());
        own.values.clone_from(&self.values);
        for (name, section) in &self.sections {
            own.sections.push((name.clone(), section.expand(root, chain, nodes)?));
        }
        tree.overlay(own);
        Ok(tree)
    }

    /// The first parts of all references below.
    pub(crate) fn referenced(&self, names: &mut Vec<String>) {
        let first = |name: &String| name.split('.').next().unwrap_or_default().to_owned();
        names.extend(self.references.iter().map(|(name, _)| first(name)));
        for (_, section) in &self.sections {
            section.referenced(names);
        }
    }
}
