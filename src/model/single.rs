//! That a program runs once at the most, whoever starts it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `single_instance:` of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SingleInstance {
    /// Locked for as long as the program lives; absolute. `None`: a file of the program's name, in
    /// a place that all supervisors of this user have in common.
    pub lock_file: Option<PathBuf>,
    /// Where its pid is written, for others; absolute.
    pub pid_file: Option<PathBuf>,
    /// A process with this among its arguments is a copy: word for word, or the last part of a
    /// path.
    pub argv: Option<Box<str>>,
    /// What a start does when a copy runs that is not ours.
    pub on_duplicate: OnDuplicate,
}

/// `single_instance.on_duplicate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDuplicate {
    /// Does not start, and names the copy.
    Refuse,
    /// Takes the one copy for its own, instead of a start; of more than one, none.
    Adopt,
    /// Ends the copy first.
    Replace,
}

impl OnDuplicate {
    /// As the site file has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Adopt => "adopt",
            Self::Replace => "replace",
        }
    }
}

/// Programs that run what their arguments name: their own names tell no program from another.
const INTERPRETERS: [&str; 17] = [
    "python", "python2", "python3", "perl", "ruby", "node", "java", "php", "lua", "sh", "bash",
    "dash", "zsh", "ksh", "env", "sudo", "nohup",
];

impl SingleInstance {
    /// Whether `argument` of a command line is what `word` names: the same, or a path to it.
    #[must_use]
    pub fn names(word: &[u8], argument: &[u8]) -> bool {
        let last = argument.rsplit(|byte| *byte == b'/').next();
        !word.is_empty() && (argument == word || last == Some(word))
    }

    /// Whether `word` is the name of an interpreter, whose processes are those of many programs.
    #[must_use]
    pub fn is_interpreter(word: &str) -> bool {
        let name = word.rsplit('/').next().unwrap_or(word);
        INTERPRETERS.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::SingleInstance;

    #[test]
    fn a_word_names_an_argument_or_the_last_part_of_a_path_and_nothing_inside_of_it() {
        let names = |argument: &str| SingleInstance::names(b"robot.py", argument.as_bytes());
        assert!(names("robot.py") && names("/srv/bbia/robot.py") && names("./robot.py"));
        for other in ["", "robot", "my_robot.py", "robot.py.bak", "robot.py/", "--file=robot.py"] {
            assert!(!names(other), "{other}");
        }
        assert!(!SingleInstance::names(b"", b"") && !SingleInstance::names(b"", b"a/"));
        assert!(SingleInstance::names(b"/a/b", b"/a/b") && !SingleInstance::names(b"/a/b", b"b"));
    }
}
