//! A variable with the process id of the child in it, which nobody knows before there is one.
//!
//! FORK-SAFETY: as in `child`: [`OwnPid::write`] only writes to memory made before. After a vfork
//! that is the parent's, which stands still and reads it no more.

use std::{cell::Cell, ffi::c_char};

/// `NAME=`, and room for the number behind it.
#[derive(Debug)]
pub(super) struct OwnPid {
    text: Box<[Cell<u8>]>,
    /// Where the number begins.
    begin: usize,
}

impl OwnPid {
    pub(super) fn new(name: &str) -> Self {
        // Ten digits and the end.
        let text: Box<[Cell<u8>]> =
            name.bytes().chain(*b"=").chain([0; 11]).map(Cell::new).collect();
        Self { text, begin: name.len().saturating_add(1) }
    }

    pub(super) fn as_ptr(&self) -> *const c_char {
        self.text.as_ptr().cast()
    }

    /// In the child.
    pub(super) fn write(&self, mut pid: u32) {
        let mut digits = [0_u8; 10];
        let mut count = 0_usize;
        for digit in digits.iter_mut().rev() {
            *digit = b'0'.wrapping_add((pid % 10).to_le_bytes()[0]);
            pid /= 10;
            count = count.wrapping_add(1);
            if pid == 0 {
                break;
            }
        }
        let written = digits.iter().skip(digits.len().wrapping_sub(count));
        for (place, digit) in self.text.iter().skip(self.begin).zip(written) {
            place.set(*digit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    #[test]
    fn the_number_of_the_child_stands_behind_its_variable() {
        for (pid, expected) in [(7, "LISTEN_PID=7"), (4_194_304, "LISTEN_PID=4194304")] {
            let variable = OwnPid::new("LISTEN_PID");
            variable.write(pid);
            let text: Vec<u8> = variable.text.iter().map(Cell::get).collect();
            let text = CString::from_vec_with_nul(
                text.split_inclusive(|b| *b == 0).next().unwrap().to_vec(),
            );
            assert_eq!(text.unwrap().to_str().unwrap(), expected);
        }
    }
}
