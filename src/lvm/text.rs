//! The text format of LVM's metadata: sections in braces, and keys with numbers, strings or lists.

/// Sections deeper than this are refused. Metadata needs four.
const DEEPEST: usize = 16;

/// A section: what stands in a pair of braces, or the whole text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    entries: Vec<(String, Node)>,
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `key { … }`
    Section(Section),
    /// `key = value`
    Value(Value),
}

/// What stands behind an equals sign.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// Text in quotes.
    String(String),
    /// `[a, b]`; lists do not nest.
    List(Vec<Self>),
}

/// Where a text breaks the rules of its format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TextError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl Section {
    /// Everything in it, in the order of the text.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(key, node)| (key.as_str(), node))
    }

    /// The sections among them.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.entries().filter_map(|(key, node)| match node {
            Node::Section(section) => Some((key, section)),
            Node::Value(_) => None,
        })
    }

    /// The section of that name.
    pub fn section(&self, name: &str) -> Option<&Self> {
        self.sections().find(|(key, _)| *key == name).map(|(_, section)| section)
    }

    /// The value of that key.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.entries().find_map(|(key, node)| match node {
            Node::Value(value) if key == name => Some(value),
            _ => None,
        })
    }
}

/// Understands a whole text.
pub fn parse(text: &str) -> Result<Section, TextError> {
    Parser { rest: text, line: 1 }.section(0)
}

struct Parser<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Parser<'t> {
    /// The entries up to the closing brace, or to the end of the text at depth 0.
    fn section(&mut self, depth: usize) -> Result<Section, TextError> {
        if depth > DEEPEST {
            return Err(self.error(format!("more than {DEEPEST} sections within each other")));
        }
        let mut entries = Vec::new();
        loop {
            match (self.peek(), depth) {
                (None, 0) => return Ok(Section { entries }),
                (None, _) => return Err(self.error("the text ends within a section")),
                (Some('}'), 1..) => {
                    self.advance(1);
                    return Ok(Section { entries });
                }
                (Some(_), _) => entries.push(self.entry(depth)?),
            }
        }
    }

    fn entry(&mut self, depth: usize) -> Result<(String, Node), TextError> {
        let key = match self.peek() {
            Some('"') => self.string()?,
            _ => self.word(is_key)?.to_owned(),
        };
        let node = match self.peek() {
            Some('{') => {
                self.advance(1);
                Node::Section(self.section(depth + 1)?)
            }
            Some('=') => {
                self.advance(1);
                Node::Value(self.value()?)
            }
            other => return Err(self.unexpected(other, "'{' or '='")),
        };
        Ok((key, node))
    }

    fn value(&mut self) -> Result<Value, TextError> {
        if self.peek() != Some('[') {
            return self.scalar();
        }
        self.advance(1);
        let mut list = Vec::new();
        loop {
            if self.peek() == Some(']') {
                self.advance(1);
                return Ok(Value::List(list));
            }
            list.push(self.scalar()?);
            match self.peek() {
                Some(',') => self.advance(1),
                Some(']') => {}
                other => return Err(self.unexpected(other, "',' or ']'")),
            }
        }
    }

    fn scalar(&mut self) -> Result<Value, TextError> {
        match self.peek() {
            Some('"') => self.string().map(Value::String),
            Some('0'..='9' | '-' | '+' | '.') => self.number(),
            other => Err(self.unexpected(other, "a number, a string or a list")),
        }
    }

    fn number(&mut self) -> Result<Value, TextError> {
        let word = self.word(|character| character.is_ascii_digit() || matches!(character, '-' | '+' | '.'))?;
        let float = word.contains('.');
        let value = if float { word.parse().map(Value::Float).ok() } else { word.parse().map(Value::Integer).ok() };
        value.ok_or_else(|| self.error(format!("{word} is no number of 64 bits")))
    }

    /// A string with its quotes; a backslash takes the special meaning from the character behind it.
    fn string(&mut self) -> Result<String, TextError> {
        let mut string = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((position, character)) = characters.next() {
            match character {
                '"' => {
                    self.line += self.rest[..position].matches('\n').count();
                    self.advance(position + 1);
                    return Ok(string);
                }
                '\\' => string.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => string.push(character),
            }
        }
        Err(self.error("a string does not end"))
    }

    /// The longest word of such characters; it is never empty.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> Result<&'t str, TextError> {
        let found = self.peek();
        let end = self.rest.find(|character| !belongs(character)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.unexpected(found, "a name"));
        }
        let word = &self.rest[..end];
        self.advance(end);
        Ok(word)
    }

    /// The next character that is neither white space nor in a comment.
    fn peek(&mut self) -> Option<char> {
        loop {
            let character = self.rest.chars().next()?;
            if character == '#' {
                self.advance(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if character.is_whitespace() {
                self.line += usize::from(character == '\n');
                self.advance(character.len_utf8());
            } else {
                return Some(character);
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn unexpected(&self, found: Option<char>, wanted: &str) -> TextError {
        match found {
            Some(character) => self.error(format!("{character:?} where {wanted} should be")),
            None => self.error(format!("the text ends where {wanted} should be")),
        }
    }

    fn error(&self, problem: impl Into<String>) -> TextError {
        TextError { line: self.line, problem: problem.into() }
    }
}

fn is_key(character: char) -> bool {
    !character.is_whitespace() && !matches!(character, '{' | '}' | '[' | ']' | '=' | '#' | '"' | ',')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> Value {
        parse(text).unwrap().value("key").unwrap().clone()
    }

    #[test]
    fn every_kind_of_value_is_read() {
        for (text, expected) in [
            ("key = 5", Value::Integer(5)),
            ("key=-5# comment", Value::Integer(-5)),
            ("key = 9223372036854775807", Value::Integer(i64::MAX)),
            ("key = 1.5", Value::Float(1.5)),
            (r#"key = "a \"quoted\" \\ word {#=""#, Value::String(r#"a "quoted" \ word {#="#.into())),
            ("key = []", Value::List(Vec::new())),
            ("key = [\n\"pv0\", # the first\n 0]", Value::List(vec![Value::String("pv0".into()), Value::Integer(0)])),
            (r#"key = ["A", "B",]"#, Value::List(["A", "B"].map(|word| Value::String(word.into())).into())),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn sections_and_keys_keep_their_order() {
        let text = "group {\nid = \"x\"\nb { segment1 { type = \"striped\" } }\na {}\n}\nversion = 1\n";
        let root = parse(text).unwrap();
        let group = root.section("group").unwrap();
        assert_eq!(group.sections().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "a"]);
        let segment = group.section("b").and_then(|section| section.section("segment1")).unwrap();
        assert_eq!(segment.value("type"), Some(&Value::String("striped".into())));
        assert_eq!(root.value("version"), Some(&Value::Integer(1)));
        assert_eq!(root.value("group"), None);
    }

    #[test]
    fn a_broken_text_is_refused_with_line_and_reason() {
        for (text, expected) in [
            ("a {\n b = 1\n", "line 3: the text ends within a section"),
            ("a\n=\n\n]", "line 4: ']' where a number, a string or a list should be"),
            ("}", "line 1: '}' where a name should be"),
            ("a", "line 1: the text ends where '{' or '=' should be"),
            ("a = \"x\ny\"\nb = ;", "line 3: ';' where a number, a string or a list should be"),
            ("a = \"x", "line 1: a string does not end"),
            ("a = [1 2]", "line 1: '2' where ',' or ']' should be"),
            ("a = [[1]]", "line 1: '[' where a number, a string or a list should be"),
            ("a = 99999999999999999999", "line 1: 99999999999999999999 is no number of 64 bits"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn nesting_without_end_is_refused_before_the_stack_is() {
        let error = parse(&"a {".repeat(100_000)).unwrap_err();
        assert_eq!(error.problem, "more than 16 sections within each other");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn arbitrary_text_of_the_formats_own_characters_never_panics(text in "[a-c{}=\\[\\]\",#\\\\0-9.\\- \n]{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn every_string_survives_quoting(string in any::<String>()) {
            let quoted = string.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(value(&format!("key = \"{quoted}\"")), Value::String(string));
        }
    }
}
