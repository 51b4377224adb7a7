//! Licence expressions (SPDX): may we use this under a licence we accept?

/// Whether `expression` can be satisfied with licences of `allowed` alone.
///
/// An old-style `/` counts as OR. `X WITH Y` must be allowed as a whole.
///
/// # Errors
/// The expression is malformed.
pub fn satisfiable(expression: &str, allowed: &[String]) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let verdict = parser.alternatives();
    match (verdict, parser.words) {
        (Some(verdict), []) => Ok(verdict),
        _ => Err(format!("not a licence expression: {expression}")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn next_is(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.next();
        }
        found
    }

    fn alternatives(&mut self) -> Option<bool> {
        let mut any = self.conjunction()?;
        while self.next_is("OR") {
            any |= self.conjunction()?;
        }
        Some(any)
    }

    fn conjunction(&mut self) -> Option<bool> {
        let mut all = self.licence()?;
        while self.next_is("AND") {
            all &= self.licence()?;
        }
        Some(all)
    }

    fn licence(&mut self) -> Option<bool> {
        if self.next_is("(") {
            let inner = self.alternatives()?;
            return self.next_is(")").then_some(inner);
        }
        let id = self.next().filter(|word| !["AND", "OR", "WITH", ")"].contains(word))?;
        let whole = if self.next_is("WITH") {
            format!("{id} WITH {}", self.next()?)
        } else {
            id.to_owned()
        };
        Some(self.allowed.contains(&whole))
    }
}

#[cfg(test)]
mod tests {
    use super::satisfiable;

    #[test]
    fn expressions() {
        let allowed: Vec<String> =
            ["MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"].map(Into::into).to_vec();
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("LGPL-2.1 OR MIT", true),
            ("LGPL-2.1 AND MIT", false),
            ("MIT/Apache-2.0", true),
            ("ISC AND (Apache-2.0 OR GPL-2.0)", true),
            ("(GPL-2.0 OR LGPL-2.1) AND MIT", false),
            ("GPL-2.0 OR MIT AND ISC", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
        ] {
            assert_eq!(satisfiable(expression, &allowed), Ok(expected), "{expression}");
        }
        for broken in ["", "MIT OR", "(MIT", "MIT)", "AND", "MIT ISC", "MIT WITH"] {
            assert!(satisfiable(broken, &allowed).is_err(), "{broken}");
        }
    }
}
