//! Names of programs, mounts, semaphores and tasks.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A validated name: `[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}`, so it is safe in paths, logs and
/// terminals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is no [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text is longer than [`Name::MAX_LEN`] bytes.
    TooLong,
    /// The first character is not a letter or digit.
    BadStart,
    /// A character other than letters, digits and `_ . @ -`.
    BadCharacter,
}

impl Name {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Takes `text` as a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().ok_or(NameError::Empty)?;
        if text.len() > Self::MAX_LEN {
            return Err(NameError::TooLong);
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::BadStart);
        }
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'@' | b'-');
        if text.bytes().all(ok) { Ok(Self(text.into())) } else { Err(NameError::BadCharacter) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name is not empty",
            Self::TooLong => "a name has at most 64 characters",
            Self::BadStart => "a name starts with a letter or a digit",
            Self::BadCharacter => "a name has only letters, digits and _ . @ -",
        })
    }
}

impl std::error::Error for NameError {}
