//! Prometheus relabel rules: labels in, labels or a refusal out.
//!
//! The [configuration's meaning](https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config)
//! is Prometheus 3's: regular expressions match the whole value, `.` matches newlines, a missing label reads as an empty
//! one, setting a label to nothing removes it, and a series left without labels is dropped. `__name__` is the metric name.
//!
//! Differences: expressions are those of the crate `regex`, not RE2. `\d`, `\w`, `\s` and `\b` know all of Unicode, a
//! literal `{` needs a backslash, `&&`, `--` and `~~` are operators inside brackets, and `\C` and `\Q..\E` do not exist.
//! Temporary labels (`__tmp_..`) are not removed at the end, as they are not in Prometheus's `write_relabel_configs`.
//!
//! Rules run once per series, not per sample; the verdict is memoised by the output.

use md5::{Digest as _, Md5};
use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// Bytes of memory that a compiled expression may take.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Bytes of an expression as written.
const REGEX_TEXT_MAX: usize = 16 << 10;
/// Groups within groups in an expression.
const REGEX_NEST_MAX: u32 = 64;

/// Labels of a series with its name as `__name__`, names distinct.
pub type Labels = Vec<(String, String)>;

/// What the rules say of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It goes on, with the labels as the rules left them.
    Keep,
    /// It goes no further.
    Drop,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Sets the target label when the expression matches.
    #[default]
    Replace,
    /// Drops series that do not match.
    Keep,
    /// Drops series that match.
    Drop,
    /// Sets the target label to a hash of the source, modulo.
    HashMod,
    /// Copies labels whose names match to other names.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets the target label to the source in lower case.
    Lowercase,
    /// Sets the target label to the source in upper case.
    Uppercase,
    /// Drops series whose source differs from the target label.
    KeepEqual,
    /// Drops series whose source equals the target label.
    DropEqual,
}

impl Action {
    /// Every action by its spelling in configuration.
    pub const ALL: [(&str, Self); 11] = [
        ("replace", Self::Replace),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
        ("hashmod", Self::HashMod),
        ("labelmap", Self::LabelMap),
        ("labeldrop", Self::LabelDrop),
        ("labelkeep", Self::LabelKeep),
        ("lowercase", Self::Lowercase),
        ("uppercase", Self::Uppercase),
        ("keepequal", Self::KeepEqual),
        ("dropequal", Self::DropEqual),
    ];

    /// The keys that mean something with this action.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Replace => &["source_labels", "separator", "regex", "target_label", "replacement"],
            Self::Keep | Self::Drop => &["source_labels", "separator", "regex"],
            Self::HashMod => &["source_labels", "separator", "target_label", "modulus"],
            Self::LabelMap => &["regex", "replacement"],
            Self::LabelDrop | Self::LabelKeep => &["regex"],
            Self::Lowercase | Self::Uppercase => &["source_labels", "separator", "target_label"],
            Self::KeepEqual | Self::DropEqual => &["source_labels", "target_label"],
        }
    }

    /// Whether Prometheus refuses the keys that mean nothing with this action, instead of passing over them.
    const fn is_strict(self) -> bool {
        matches!(self, Self::LabelDrop | Self::LabelKeep | Self::KeepEqual | Self::DropEqual)
    }
}

/// A rule as written; `None` is a key not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSpec {
    /// Labels whose values are joined to the source.
    pub source_labels: Option<Vec<String>>,
    /// What joins them, `;` if not given.
    pub separator: Option<String>,
    /// The expression, `(.*)` if not given.
    pub regex: Option<String>,
    /// The label set, or compared.
    pub target_label: Option<String>,
    /// The divisor of `hashmod`.
    pub modulus: Option<u64>,
    /// What the target label is set to, `$1` if not given.
    pub replacement: Option<String>,
    /// What to do, `replace` if not given.
    pub action: Action,
}

/// Why a rule is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    /// The action needs a key that is not there.
    #[error("missing, action {action} needs it")]
    Missing {
        /// The key.
        key: &'static str,
        /// The action's spelling.
        action: &'static str,
    },
    /// The key cannot go with the action.
    #[error("means nothing with action {action}")]
    Meaningless {
        /// The key.
        key: &'static str,
        /// The action's spelling.
        action: &'static str,
    },
    /// The expression is not one.
    #[error("expected a regular expression: {reason}")]
    Regex {
        /// The parser's words.
        reason: String,
    },
    /// The divisor is zero.
    #[error("expected a number above 0")]
    ZeroModulus,
}

impl RuleError {
    /// The key at fault.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Missing { key, .. } | Self::Meaningless { key, .. } => key,
            Self::Regex { .. } => "regex",
            Self::ZeroModulus => "modulus",
        }
    }
}

/// A rule that can run.
#[derive(Clone, Debug)]
pub struct Rule {
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    target_label: String,
    modulus: u64,
    replacement: String,
    action: Action,
}

impl Rule {
    /// A rule from what was written, or everything that is wrong with it.
    pub fn try_new(spec: RuleSpec) -> Result<Self, Vec<RuleError>> {
        let mut errors = Vec::new();
        check_keys(&spec, &mut errors);
        let regex = match anchored(spec.regex.as_deref().unwrap_or("(.*)")) {
            Ok(regex) if errors.is_empty() => regex,
            Ok(_) => return Err(errors),
            Err(error) => {
                errors.push(error);
                return Err(errors);
            }
        };
        Ok(Self {
            source_labels: spec.source_labels.unwrap_or_default(),
            separator: spec.separator.unwrap_or_else(|| ";".to_owned()),
            regex,
            target_label: spec.target_label.unwrap_or_default(),
            modulus: spec.modulus.unwrap_or(1),
            replacement: spec.replacement.unwrap_or_else(|| "$1".to_owned()),
            action: spec.action,
        })
    }

    fn run(&self, labels: &mut Labels) -> Verdict {
        let target = self.target_label.as_str();
        match self.action {
            Action::Replace => self.replace(labels),
            Action::Keep => return keep_if(self.regex.is_match(&self.source(labels))),
            Action::Drop => return keep_if(!self.regex.is_match(&self.source(labels))),
            Action::KeepEqual => return keep_if(value(labels, target) == self.source(labels)),
            Action::DropEqual => return keep_if(value(labels, target) != self.source(labels)),
            Action::HashMod => set(labels, target, hash(&self.source(labels), self.modulus).to_string()),
            Action::Lowercase => set(labels, target, self.source(labels).to_lowercase()),
            Action::Uppercase => set(labels, target, self.source(labels).to_uppercase()),
            Action::LabelMap => self.map(labels),
            Action::LabelDrop => labels.retain(|(name, _)| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|(name, _)| self.regex.is_match(name)),
        }
        Verdict::Keep
    }

    fn source(&self, labels: &Labels) -> String {
        let mut source = String::new();
        for (index, name) in self.source_labels.iter().enumerate() {
            if index > 0 {
                source.push_str(&self.separator);
            }
            source.push_str(value(labels, name));
        }
        source
    }

    fn replace(&self, labels: &mut Labels) {
        let source = self.source(labels);
        let Some(captures) = self.regex.captures(&source) else { return };
        let (mut target, mut replacement) = (String::new(), String::new());
        captures.expand(&self.target_label, &mut target);
        captures.expand(&self.replacement, &mut replacement);
        if !target.is_empty() {
            set(labels, &target, replacement);
        }
    }

    fn map(&self, labels: &mut Labels) {
        for (name, value) in labels.clone() {
            let Some(captures) = self.regex.captures(&name) else { continue };
            let mut target = String::new();
            captures.expand(&self.replacement, &mut target);
            if !target.is_empty() {
                set(labels, &target, value);
            }
        }
    }
}

/// Runs the rules one after the other. Labels kept are sorted by name; dropped ones are in no particular state.
pub fn apply(rules: &[Rule], labels: &mut Labels) -> Verdict {
    labels.sort_unstable();
    for rule in rules {
        if rule.run(labels) == Verdict::Drop {
            return Verdict::Drop;
        }
    }
    keep_if(!labels.is_empty())
}

fn keep_if(kept: bool) -> Verdict {
    if kept { Verdict::Keep } else { Verdict::Drop }
}

fn find(labels: &Labels, name: &str) -> Result<usize, usize> {
    labels.binary_search_by(|(other, _)| other.as_str().cmp(name))
}

fn value<'a>(labels: &'a Labels, name: &str) -> &'a str {
    find(labels, name).map_or("", |at| labels[at].1.as_str())
}

fn set(labels: &mut Labels, name: &str, value: String) {
    match find(labels, name) {
        Ok(at) if value.is_empty() => {
            labels.remove(at);
        }
        Ok(at) => labels[at].1 = value,
        Err(_) if value.is_empty() => {}
        Err(at) => labels.insert(at, (name.to_owned(), value)),
    }
}

/// The last eight bytes of the MD5 sum, big endian, modulo: shards agree with Prometheus's.
fn hash(source: &str, modulus: u64) -> u64 {
    let sum = Md5::digest(source.as_bytes());
    sum.iter().skip(8).fold(0, |number, byte| number << 8 | u64::from(*byte)) % modulus
}

fn check_keys(spec: &RuleSpec, errors: &mut Vec<RuleError>) {
    let action = Action::ALL.iter().find(|(_, action)| *action == spec.action).map_or("", |(name, _)| name);
    let known = spec.action.keys();
    let given = [
        ("source_labels", spec.source_labels.is_some()),
        ("separator", spec.separator.is_some()),
        ("regex", spec.regex.is_some()),
        ("target_label", spec.target_label.as_ref().is_some_and(|label| !label.is_empty())),
        ("modulus", spec.modulus.is_some()),
        ("replacement", spec.replacement.is_some()),
    ];
    for (key, is_given) in given {
        let needed = matches!(key, "target_label" | "modulus") && known.contains(&key);
        // Prometheus refuses a replacement here too: the value is the source, not a template.
        let strict = spec.action.is_strict()
            || key == "replacement" && matches!(spec.action, Action::Lowercase | Action::Uppercase);
        match (is_given, known.contains(&key)) {
            (false, true) if needed => errors.push(RuleError::Missing { key, action }),
            (true, false) if strict => errors.push(RuleError::Meaningless { key, action }),
            _ => {}
        }
    }
    if spec.modulus == Some(0) {
        errors.push(RuleError::ZeroModulus);
    }
}

fn anchored(text: &str) -> Result<Regex, RuleError> {
    if text.len() > REGEX_TEXT_MAX {
        return Err(RuleError::Regex { reason: format!("longer than {REGEX_TEXT_MAX} bytes") });
    }
    // Compiled alone first: `a)|(b` must not be made valid by the group around it.
    compiled(text)?;
    compiled(&format!("^(?s:{text})$"))
}

fn compiled(text: &str) -> Result<Regex, RuleError> {
    RegexBuilder::new(text)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .nest_limit(REGEX_NEST_MAX)
        .build()
        .map_err(|error| RuleError::Regex { reason: reason(&error) })
}

/// The last line of the parser's message; the lines before it draw the expression.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests;
