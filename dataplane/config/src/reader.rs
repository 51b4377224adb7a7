//! Reading a TOML table key by key: every key asked for is known, every other is an error.

use crate::error::{ConfigError, Place};
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a line of a translated text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1; 0 if it has none.
    pub line: usize,
}

/// The text and its name.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    /// Of each line, if the text is a translation.
    pub(crate) origins: &'a [Origin],
}

impl Source<'_> {
    /// The place of a byte offset, under a key.
    pub(crate) fn place(&self, span: &Range<usize>, key: &str) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let index = before.matches('\n').count();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let key = key.to_owned();
        match self.origins.get(index) {
            // The columns of a translation are nobody's.
            Some(Origin { file, line }) => {
                Place { file: file.clone(), line: *line, column: 1, key }
            }
            None => Place { file: self.file.to_owned(), line: index + 1, column, key },
        }
    }
}

/// One table.
pub(crate) struct Section<'a> {
    source: Source<'a>,
    name: String,
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    asked: RefCell<Vec<&'static str>>,
    /// Known, but not worth recommending.
    tolerated: RefCell<Vec<String>>,
}

/// One value.
#[derive(Clone)]
pub(crate) struct Item<'a> {
    source: Source<'a>,
    /// The key with its sections.
    pub(crate) key: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    pub(crate) fn root(source: Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            source,
            name: String::new(),
            table: Some(table),
            span: 0..0,
            asked: RefCell::default(),
            tolerated: RefCell::default(),
        }
    }

    fn qualified(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The value of a key, which is thereby known.
    pub(crate) fn find(&self, key: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().push(key);
        let value = self.table?.get(key)?;
        Some(Item { source: self.source, key: self.qualified(key), value })
    }

    /// The same for a key that is not named where keys are listed.
    pub(crate) fn find_quietly(&self, key: &str) -> Option<Item<'a>> {
        let value = self.table?.get(key)?;
        self.tolerated.borrow_mut().push(key.to_owned());
        Some(Item { source: self.source, key: self.qualified(key), value })
    }

    /// Whether there are no other keys than these.
    pub(crate) fn has_only(&self, keys: &[&str]) -> bool {
        let mut names = self.table.into_iter().flatten();
        names.all(|(name, _)| keys.contains(&name.get_ref().as_ref()))
    }

    /// The values whose names begin with a prefix, in the order of the file. All are known.
    pub(crate) fn keys_with_prefix(&self, prefix: &'static str) -> Vec<Item<'a>> {
        self.asked.borrow_mut().push(prefix);
        let named = self.named().into_iter().filter(|(name, _)| name.starts_with(prefix));
        let mut items = Vec::new();
        for (name, item) in named {
            self.tolerated.borrow_mut().push(name);
            items.push(item);
        }
        items
    }

    /// The tables whose names begin with a prefix, in the order of the file. All are known.
    pub(crate) fn sections_with_prefix(&self, prefix: &'static str) -> Vec<(String, Item<'a>)> {
        self.asked.borrow_mut().push(prefix);
        let mut named = self.named();
        named.retain(|(name, item)| name.starts_with(prefix) && item.is_table());
        self.tolerated.borrow_mut().extend(named.iter().map(|(name, _)| name.clone()));
        named
    }

    /// The value of a key that must be there.
    pub(crate) fn require(&self, key: &'static str) -> Result<Item<'a>, ConfigError> {
        self.find(key).ok_or_else(|| self.place_of(key).error("missing", ""))
    }

    /// The place of the section, under one of its keys.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        self.source.place(&self.span, &self.qualified(key))
    }

    /// The table under a key; empty if it is not there.
    pub(crate) fn section(&self, key: &'static str) -> Result<Section<'a>, ConfigError> {
        match self.find(key) {
            Some(item) => item.section(),
            None => Ok(Self {
                source: self.source,
                name: self.qualified(key),
                table: None,
                span: self.span.clone(),
                asked: RefCell::default(),
                tolerated: RefCell::default(),
            }),
        }
    }

    /// The tables under a key by name, in the order of the file. Every name is known.
    pub(crate) fn named(&self) -> Vec<(String, Item<'a>)> {
        let mut entries: Vec<_> = self.table.into_iter().flatten().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let item = |(name, value): (&'a Spanned<std::borrow::Cow<'a, str>>, _)| {
            let text = name.get_ref().to_string();
            (text.clone(), Item { source: self.source, key: self.qualified(&text), value })
        };
        entries.into_iter().map(item).collect()
    }

    /// To be called when all keys have been asked for: refuses the others.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        let (mut asked, tolerated) = (self.asked.borrow().clone(), self.tolerated.borrow());
        let mut seen = std::collections::HashSet::new();
        asked.retain(|key| seen.insert(*key));
        let unknown = self
            .table
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
            .filter(|name| {
                let name = name.get_ref().as_ref();
                !asked.contains(&name) && !tolerated.iter().any(|known| known == name)
            })
            .min_by_key(|name| name.span().start);
        match unknown {
            None => Ok(()),
            Some(name) => Err(self
                .source
                .place(&name.span(), &self.qualified(name.get_ref()))
                .error("unknown key", asked.join(", "))),
        }
    }
}

impl<'a> Item<'a> {
    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        self.source.place(&self.value.span(), &self.key)
    }

    pub(crate) fn error(&self, what: impl Into<String>, allowed: impl Into<String>) -> ConfigError {
        self.place().error(what, allowed)
    }

    fn wrong_type(&self, allowed: &str) -> ConfigError {
        self.error(format!("is {}", article(self.value.get_ref().type_str())), allowed)
    }

    pub(crate) fn section(&self) -> Result<Section<'a>, ConfigError> {
        let table = self.value.get_ref().as_table().ok_or_else(|| self.wrong_type("a table"))?;
        Ok(Section {
            source: self.source,
            name: self.key.clone(),
            table: Some(table),
            span: self.value.span(),
            asked: RefCell::default(),
            tolerated: RefCell::default(),
        })
    }

    /// The tables of an array of tables.
    pub(crate) fn sections(&self) -> Result<Vec<Section<'a>>, ConfigError> {
        let array = self.value.get_ref().as_array();
        let array = array.ok_or_else(|| self.wrong_type("an array of tables"))?;
        array
            .iter()
            .map(|value| Item { source: self.source, key: self.key.clone(), value }.section())
            .collect()
    }

    pub(crate) fn text(&self) -> Result<&'a str, ConfigError> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong_type("a string"))
    }

    pub(crate) fn boolean(&self) -> Result<bool, ConfigError> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong_type("true, false"))
    }

    pub(crate) fn is_integer(&self) -> bool {
        self.value.get_ref().is_integer()
    }

    fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Whether the value switches something off.
    pub(crate) fn is_off(&self) -> bool {
        let value = self.value.get_ref();
        let off = ["", "no", "0", "none", "auto", "false", "000000"];
        let empty = value.as_array().is_some_and(|array| array.is_empty());
        let zero = value.as_integer().is_some_and(|integer| integer.as_str() == "0");
        // Pulling is what IKEv2 does, whatever the key says.
        let pull = self.key.ends_with(".pull") && value.as_bool() == Some(true);
        let word = value.as_str().is_some_and(|word| off.contains(&word));
        empty || zero || pull || word || value.as_bool() == Some(false)
    }

    /// A path, which is not yet opened.
    pub(crate) fn path(&self) -> Result<&'a str, ConfigError> {
        let path = self.text()?;
        // A NUL would only be found when the path is used.
        if path.is_empty() || path.contains('\0') {
            return Err(self.error("is no path", "a path"));
        }
        Ok(path)
    }

    /// The digits of a number, or a string.
    pub(crate) fn number_text(&self) -> Option<String> {
        let value = self.value.get_ref();
        let integer = value.as_integer().filter(|integer| integer.radix() == 10);
        let number = integer.map(|integer| integer.as_str());
        let number = number.or_else(|| value.as_float().map(|float| float.as_str()));
        number.or_else(|| value.as_str()).map(|text| text.trim().replace('_', ""))
    }

    /// An integer within a range.
    pub(crate) fn integer(&self, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let allowed = || format!("{} to {}", range.start(), range.end());
        let integer = self.value.get_ref().as_integer();
        let integer = integer.ok_or_else(|| self.wrong_type(&allowed()))?;
        u64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|value| range.contains(value))
            .ok_or_else(|| self.error(format!("{integer} is out of range"), allowed()))
    }

    /// The value that a word stands for.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let allowed = || choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let word = self.value.get_ref().as_str().ok_or_else(|| self.wrong_type(&allowed()))?;
        let found = choices.iter().find(|(candidate, _)| *candidate == word);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| self.error(format!("unknown value {word:?}"), allowed()))
    }

    /// A string, or a list of strings; never empty.
    pub(crate) fn one_or_more(&self, allowed: &str) -> Result<Vec<Item<'a>>, ConfigError> {
        let value = self.value.get_ref();
        if value.is_str() {
            return Ok(vec![self.clone()]);
        }
        let array = value.as_array().ok_or_else(|| self.wrong_type(allowed))?;
        let items: Vec<_> = array
            .iter()
            .map(|value| Item { source: self.source, key: self.key.clone(), value })
            .collect();
        if items.is_empty() { Err(self.error("is empty", allowed)) } else { Ok(items) }
    }
}

fn article(type_name: &str) -> String {
    let vowel = type_name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {type_name}", if vowel { "an" } else { "a" })
}
