//! Patterns of `include`: `*`, `?` and `[…]` in each part of a path, as in a shell.

use std::path::{Path, PathBuf};

/// More matches than this are a mistake.
const MATCHES_MAX: usize = 1000;

/// The files that a pattern names, relative to a directory, in the order of their names.
///
/// # Errors
/// What is wrong with the pattern.
pub(crate) fn expand(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let mut found =
        vec![if pattern.starts_with('/') { PathBuf::from("/") } else { directory.to_owned() }];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for path in &found {
            if !part.contains(['*', '?', '[']) {
                let path = path.join(part);
                if path.exists() {
                    next.push(path);
                }
                continue;
            }
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            // A wildcard does not find what is hidden.
            let visible = |name: &String| !name.starts_with('.') || part.starts_with('.');
            let part: Vec<char> = part.chars().collect();
            let matching = names
                .filter(|name| visible(name) && matches(&part, &name.chars().collect::<Vec<_>>()));
            next.extend(matching.map(|name| path.join(name)));
            if next.len() > MATCHES_MAX {
                return Err(format!("more than {MATCHES_MAX} files"));
            }
        }
        next.sort();
        found = next;
    }
    Ok(found)
}

/// Whether a name is of a pattern; time is at most the product of their lengths.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at_pattern, mut at_name) = (0, 0);
    // Where to go on if what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while at_name < name.len() {
        let (rest, c) = (pattern.get(at_pattern..).unwrap_or_default(), name.get(at_name));
        if rest.first() == Some(&'*') {
            star = Some((at_pattern + 1, at_name));
            at_pattern += 1;
            continue;
        }
        match c.and_then(|c| one(rest, *c)) {
            Some(length) => {
                at_pattern += length;
                at_name += 1;
            }
            None => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                at_pattern = after;
                at_name = from + 1;
            }
        }
    }
    pattern.get(at_pattern..).unwrap_or_default().iter().all(|c| *c == '*')
}

/// How much of a pattern stands for one character, if for this one.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let close = pattern.iter().skip(2).position(|c| *c == ']');
            let Some(close) = close.map(|close| close + 2) else {
                return (c == '[').then_some(1);
            };
            let set = pattern.get(1..close)?;
            let (negated, set) = match set.split_first() {
                Some(('!' | '^', rest)) => (true, rest),
                _ => (false, set),
            };
            (in_set(set, c) != negated).then_some(close + 1)
        }
        plain => (*plain == c).then_some(1),
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let mut set = set;
    while let Some((first, rest)) = set.split_first() {
        match rest {
            ['-', last, after @ ..] => {
                if (*first..=*last).contains(&c) {
                    return true;
                }
                set = after;
            }
            _ => {
                if *first == c {
                    return true;
                }
                set = rest;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let fits = |pattern: &str, name: &str| {
            matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
        };
        for (pattern, name) in [
            ("*.conf", "a.conf"),
            ("*", ""),
            ("a*b*c", "axxbyyc"),
            ("?", "x"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[", "["),
            ("[]]", "]"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.conf", "a.con"), ("?", ""), ("[a-c]", "d"), ("a", "ab"), ("a*b", "ac")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        let stars = "*a".repeat(40);
        assert!(!fits(&stars, &"a".repeat(39)));
    }
}
