//! What a program prints, line by line, without holding all of it.

use tokio::sync::mpsc;

use super::commands::{Command, CommandError, Commands, Output};

/// The longest line, bytes: dumpe2fs prints one for all that is free in 128 MiB.
const LONGEST: usize = 4 << 20;

/// Cuts pieces of a text into lines.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes the next piece, and gives each line that ends in it to `each`, without its end.
    pub fn take(&mut self, piece: &[u8], mut each: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(&rest[..end]);
            each(&String::from_utf8_lossy(&self.begun))?;
            self.begun.clear();
            rest = &rest[end + 1..];
        }
        if self.begun.len() + rest.len() > LONGEST {
            return Err(format!("a line of more than {LONGEST} bytes"));
        }
        self.begun.extend_from_slice(rest);
        Ok(())
    }

    /// Gives the last line, which had no end, to `each`.
    pub fn end(self, mut each: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
        if self.begun.is_empty() { Ok(()) } else { each(&String::from_utf8_lossy(&self.begun)) }
    }
}

/// Runs a command that changes nothing and must end with status 0, and gives each line that it prints to `each`, which says
/// what is wrong with it; then the command is ended.
pub async fn each_line(
    commands: &dyn Commands,
    command: &Command,
    mut each: impl FnMut(&str) -> Result<(), String> + Send,
) -> Result<Output, CommandError> {
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(1);
    let reading = async move {
        let mut lines = Lines::default();
        while let Some(piece) = receiver.recv().await {
            lines.take(&piece, &mut each)?;
        }
        lines.end(&mut each)
    };
    let (output, read) = tokio::join!(commands.stream(command, sender), reading);
    let output = output?;
    read.map_err(|problem| CommandError::Nonsense { command: command.to_string(), problem })?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&str]) -> Result<Vec<String>, String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.take(piece.as_bytes(), |line| {
                found.push(line.to_owned());
                Ok(())
            })?;
        }
        lines.end(|line| {
            found.push(line.to_owned());
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn lines_are_the_same_however_the_text_is_cut() {
        for pieces in [&["one\n\ntwo\nthree"][..], &["on", "e\n", "\nt", "wo\nthree"], &["one\n\ntwo\n", "three", ""]] {
            assert_eq!(cut(pieces).unwrap(), ["one", "", "two", "three"], "{pieces:?}");
        }
        assert_eq!(cut(&["one\n"]).unwrap(), ["one"]);
        assert_eq!(cut(&[]).unwrap(), [""; 0]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let long = "x".repeat(LONGEST);
        assert!(cut(&[&long]).is_ok() && cut(&[&long, "x"]).is_err());
    }
}
