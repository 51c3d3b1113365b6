//! What a program's bytes become on their way to a sink.

use super::{
    Which,
    datagram::{self, Service},
    queue::{Segment, short},
    splitter::{CUT, End, Splitter},
};
use crate::model::WallTime;

/// The longest name that the column of names grows for.
pub(super) const WIDTH_MAX: usize = 20;

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// `NAME | line`.
    Named,
    /// A datagram a line.
    Message(Service),
}

/// Everything that forms a line besides the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    pub(super) form: Form,
    pub(super) stamped: bool,
    pub(super) name: &'a str,
    pub(super) which: Which,
    pub(super) at: WallTime,
    pub(super) owner: u32,
    pub(super) keep: bool,
    pub(super) max_line: usize,
    pub(super) width: usize,
    /// The number of the program's colour; `None`: no colour.
    pub(super) colour: Option<u8>,
    /// Whether the program's own colours may pass.
    pub(super) terminal: bool,
}

/// Formed output, and to whom it belongs; reused from chunk to chunk.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) segments: Vec<Segment>,
}

impl Batch {
    /// Forms `chunk`; `fresh`: it begins a line.
    pub(super) fn form(
        &mut self,
        splitter: &mut Splitter,
        chunk: &[u8],
        look: Look<'_>,
        fresh: bool,
    ) {
        self.bytes.clear();
        self.segments.clear();
        let stamp = look.stamped.then(|| look.at.rfc3339());
        let (mut rest, mut fresh) = (chunk, fresh);
        while let Some(piece) = splitter.piece(&mut rest, look.max_line) {
            let before = self.bytes.len();
            let message = matches!(look.form, Form::Message(_));
            if fresh || message {
                self.head(look, stamp.as_deref());
            }
            if look.form == Form::Named {
                self.harmless(piece.text, look.terminal);
            } else {
                self.bytes.extend_from_slice(piece.text);
            }
            match piece.end {
                End::Newline if !message => self.bytes.push(b'\n'),
                End::Cut => {
                    let cut = if message { CUT.strip_suffix(b"\n").unwrap_or(CUT) } else { CUT };
                    self.bytes.extend_from_slice(cut);
                }
                End::Newline | End::Open => {}
            }
            fresh = piece.end != End::Open;
            let raw = short(piece.text.len() + usize::from(piece.end == End::Newline));
            let out = short(self.bytes.len() - before);
            self.segments.push(Segment { owner: look.owner, raw, out, keep: look.keep });
        }
    }

    fn head(&mut self, look: Look<'_>, stamp: Option<&str>) {
        if let Form::Message(service) = look.form {
            datagram::head(&mut self.bytes, service, look.name, look.which, look.at);
            return;
        }
        if let Some(stamp) = stamp {
            self.bytes.extend_from_slice(stamp.as_bytes());
            self.bytes.push(b' ');
        }
        if look.form == Form::Named {
            if let Some(colour) = look.colour {
                self.bytes.extend_from_slice(&[0x1b, b'[', b'3', b'1' + colour % 6, b'm']);
            }
            self.bytes.extend_from_slice(look.name.as_bytes());
            let pad = look.width.saturating_sub(look.name.len());
            self.bytes.extend(std::iter::repeat_n(b' ', pad));
            self.bytes.extend_from_slice(b" | ");
            if look.colour.is_some() {
                self.bytes.extend_from_slice(b"\x1b[0m");
            }
        }
    }

    /// Appends `text` so that it cannot do anything to a terminal but show text and colours.
    fn harmless(&mut self, text: &[u8], terminal: bool) {
        let (mut rest, mut coloured) = (text, false);
        loop {
            let odd = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f || *b == 0xc2;
            let Some(at) = rest.iter().position(odd) else { break };
            let (plain, special) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            self.bytes.extend_from_slice(plain);
            let colour = if terminal { colour_len(special) } else { 0 };
            let len = match special {
                _ if colour > 0 => {
                    coloured = true;
                    self.bytes.extend_from_slice(special.get(..colour).unwrap_or_default());
                    colour
                }
                [0xc2, c1 @ 0x80..=0x9f, ..] => {
                    self.bytes.extend_from_slice(format!("\\u{{{c1:x}}}").as_bytes());
                    2
                }
                [b'\r', ..] => {
                    self.bytes.extend_from_slice(b"\\r");
                    1
                }
                [0xc2, ..] => {
                    self.bytes.push(0xc2);
                    1
                }
                [byte, ..] => {
                    self.bytes.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
                    1
                }
                [] => break,
            };
            rest = special.get(len..).unwrap_or_default();
        }
        self.bytes.extend_from_slice(rest);
        if coloured {
            self.bytes.extend_from_slice(b"\x1b[0m");
        }
    }
}

/// Length of the sequence that sets colours at the start of `text`; 0: there is none.
fn colour_len(text: &[u8]) -> usize {
    let Some(args) = text.strip_prefix(b"\x1b[") else { return 0 };
    let len = args.iter().take_while(|b| b.is_ascii_digit() || **b == b';').count();
    if len <= 32 && args.get(len) == Some(&b'm') { len + 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formed(text: &[u8], form: Form, terminal: bool) -> String {
        let look = Look {
            form,
            stamped: false,
            name: "web",
            which: Which::Stdout,
            at: WallTime(0),
            owner: 0,
            keep: false,
            max_line: 100,
            width: 5,
            colour: None,
            terminal,
        };
        let mut batch = Batch::default();
        batch.form(&mut Splitter::default(), text, look, true);
        let raw: u32 = batch.segments.iter().map(|s| s.raw).sum();
        assert_eq!(raw, short(text.len()));
        String::from_utf8_lossy(&batch.bytes).into_owned()
    }

    #[test]
    fn a_program_cannot_take_over_the_terminal() {
        let text = b"a\x1b]0;title\x07\x1b[2J\x1b[31mred\tb\r\xc2\x9b\n";
        assert_eq!(
            formed(text, Form::Named, true),
            "web   | a\\x1b]0;title\\x07\\x1b[2J\x1b[31mred\tb\\r\\u{9b}\x1b[0m\n"
        );
        assert!(!formed(text, Form::Named, false).contains('\x1b'));
        assert_eq!(
            formed(text, Form::Plain, true).as_bytes(),
            String::from_utf8_lossy(text).as_bytes()
        );
    }
}
