//! Reads site files: bounded, never blocking, and suspicious of who else may write them.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Larger files are refused before they are parsed.
const MAX_BYTES: u64 = 1 << 20;

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// As the user named it; `-` is standard input.
    pub path: PathBuf,
    /// Its text, without a byte order mark.
    pub text: Arc<str>,
    /// Tells whether the file has changed since; `None` for standard input.
    pub fingerprint: Option<Fingerprint>,
}

impl Source {
    /// A source made of text, as `path`.
    #[must_use]
    pub fn from_text(path: impl Into<PathBuf>, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { path: path.into(), text: text.into(), fingerprint: None }
    }
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Fingerprint {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// Why a file was not read.
#[derive(Debug)]
pub struct SourceError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, or with a directory above it.
    pub cause: String,
    /// What to do.
    pub hint: Option<String>,
    missing: bool,
}

impl SourceError {
    fn new(path: &Path, cause: impl Into<String>) -> Self {
        Self { path: path.into(), cause: cause.into(), hint: None, missing: false }
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {}: {}", self.path.display(), self.cause)
    }
}

impl std::error::Error for SourceError {}

/// Reads a site file. `uid` is the supervisor's effective user id; a root supervisor refuses a file
/// that somebody else could change.
///
/// # Errors
/// The file is missing, no regular file, larger than 1 MiB, no UTF-8, or not safe to trust.
pub fn read(path: &Path, uid: u32) -> Result<Source, SourceError> {
    read_checked(path, |meta| if uid == 0 { refuse_untrusted(path, meta) } else { Ok(()) })
}

/// Reads a file whose content nobody obeys, whoever may write it.
pub(crate) fn read_any(path: &Path) -> Result<Source, SourceError> {
    read_checked(path, |_| Ok(()))
}

fn read_checked(
    path: &Path,
    trust: impl FnOnce(&fs::Metadata) -> Result<(), SourceError>,
) -> Result<Source, SourceError> {
    let file = open(path)?;
    let meta = file.metadata().map_err(|e| SourceError::new(path, e.to_string()))?;
    refuse_kind(path, &meta)?;
    trust(&meta)?;
    let text = read_text(path, file)?;
    Ok(Source { fingerprint: Some(Fingerprint::of(&meta)), ..Source::from_text(path, &text) })
}

/// Reads a site from standard input.
///
/// # Errors
/// It cannot be read, is larger than 1 MiB, or is no UTF-8.
pub fn read_stdin() -> Result<Source, SourceError> {
    let text = read_text(Path::new("-"), io::stdin().lock())?;
    Ok(Source::from_text("-", &text))
}

/// Reads a site file for a reload, when half a file must not count as the whole: it is the same
/// file, of the same size and time, before and after reading and again 250 ms later, and its last
/// line is ended. (Half of the prefixes of a valid file are valid themselves, so "it parses" proves
/// nothing; a file without its last newline looks truncated.) `pause` waits.
///
/// # Errors
/// As [`read`], and when the file is being written or looks truncated.
pub fn read_stable(
    path: &Path,
    uid: u32,
    mut pause: impl FnMut(Duration),
) -> Result<Source, SourceError> {
    let source = read(path, uid)?;
    pause(Duration::from_millis(250));
    let meta = fs::metadata(path).map_err(|e| SourceError::new(path, e.to_string()))?;
    if source.fingerprint != Some(Fingerprint::of(&meta))
        || u64::try_from(source.text.len()).is_ok_and(|n| n != meta.size() && n + 3 != meta.size())
    {
        return Err(SourceError::new(path, "it is being written").hint("reload again"));
    }
    if !source.text.ends_with('\n') {
        return Err(SourceError::new(path, "it looks truncated: its last line has no end")
            .hint("end the file with a newline"));
    }
    Ok(source)
}

fn open(path: &Path) -> Result<File, SourceError> {
    // A FIFO without a writer would block for ever.
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)
        .map_err(|e| SourceError {
            missing: e.kind() == io::ErrorKind::NotFound,
            ..SourceError::new(path, e.to_string())
        })
}

fn refuse_kind(path: &Path, meta: &fs::Metadata) -> Result<(), SourceError> {
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else if meta.size() > MAX_BYTES {
        return Err(SourceError::new(path, "it is larger than 1 MiB"));
    } else {
        return Ok(());
    };
    Err(SourceError::new(path, format!("it is {what}, not a regular file")))
}

/// A root supervisor does what the file says: nobody but root may be able to say it.
fn refuse_untrusted(path: &Path, meta: &fs::Metadata) -> Result<(), SourceError> {
    let shown = path.display();
    if meta.uid() != 0 {
        let cause = format!("it belongs to user {}, and a root supervisor obeys it", meta.uid());
        return Err(SourceError::new(path, cause).hint(format!("chown root: {shown}")));
    }
    if meta.mode() & 0o022 != 0 {
        let cause = format!("others may write it (mode {:04o})", meta.mode() & 0o7777);
        return Err(SourceError::new(path, cause).hint(format!("chmod go-w {shown}")));
    }
    let real = fs::canonicalize(path).map_err(|e| SourceError::new(path, e.to_string()))?;
    for directory in real.ancestors().skip(1) {
        let meta = fs::metadata(directory).map_err(|e| SourceError::new(path, e.to_string()))?;
        let sticky = meta.mode() & 0o1000 != 0;
        if (meta.mode() & 0o022 != 0 && !sticky) || meta.uid() != 0 {
            let cause = format!(
                "others may replace it: {} has owner {} and mode {:04o}",
                directory.display(),
                meta.uid(),
                meta.mode() & 0o7777
            );
            let hint = format!("chown root: {0}; chmod go-w {0}", directory.display());
            return Err(SourceError::new(path, cause).hint(hint));
        }
    }
    Ok(())
}

fn read_text(path: &Path, input: impl Read) -> Result<String, SourceError> {
    let mut bytes = Vec::new();
    input
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| SourceError::new(path, e.to_string()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(SourceError::new(path, "it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        SourceError::new(path, format!("it is no UTF-8 text (byte {at})"))
    })
}
