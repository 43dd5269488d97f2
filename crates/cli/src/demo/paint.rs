//! What the demo prints: coloured, wrapped and with a moving line on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};

use crate::environment;

const WIDTH: usize = 100;
const INDENT: usize = 4;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Standard output, as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    terminal: bool,
    coloured: bool,
}

impl Paint {
    /// Colour is left out where `NO_COLOR` is set or the terminal knows none.
    pub(super) fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal()
            && environment::variable("TERM").is_none_or(|term| term != "dumb");
        Self {
            terminal,
            coloured: terminal && environment::variable("NO_COLOR").is_none(),
        }
    }

    /// A line on its own.
    pub(super) fn title(self, text: &str) {
        self.line(&self.styled(BOLD, text));
    }

    /// A line of plain text.
    pub(super) fn text(self, text: &str) {
        self.line(text);
    }

    /// Something that is where it is.
    pub(super) fn fact(self, name: &str, text: &str) {
        let name = self.styled(DIM, &format!("{name:<9}"));
        self.line(&format!("    {name} {text}"));
    }

    /// The heading of a scene.
    pub(super) fn scene(self, number: usize, title: &str) {
        self.line("");
        self.line(&self.styled(BOLD, &format!("{number:>2}. {title}")));
    }

    /// A command that is run.
    pub(super) fn does(self, command: &str) {
        self.marked("$", CYAN, command);
    }

    /// What a program printed, or what happened.
    pub(super) fn says(self, text: &str) {
        self.marked("|", DIM, text);
    }

    /// What that shows, once it was checked.
    pub(super) fn shows(self, text: &str) {
        self.marked(if self.terminal { "✓" } else { "ok" }, GREEN, text);
    }

    /// What went otherwise than it should.
    pub(super) fn fails(self, text: &str) {
        self.marked(if self.terminal { "✗" } else { "FAILED" }, RED, text);
    }

    /// What is waited for; gone with the next line, and never printed but on a terminal.
    pub(super) fn busy(self, text: &str) {
        if self.terminal {
            let text: String = text.chars().take(WIDTH - 2 * INDENT).collect();
            self.put(&format!(
                "\r\x1b[2K    {}",
                self.styled(DIM, &format!("… {text}"))
            ));
        }
    }

    fn marked(self, mark: &str, colour: &str, text: &str) {
        for (number, piece) in self.pieces(text).into_iter().enumerate() {
            match number {
                0 => self.line(&format!("    {} {piece}", self.styled(colour, mark))),
                _ => self.line(&format!("      {piece}")),
            }
        }
    }

    /// The text cut between words to the width of a terminal, each piece as far in as the whole; elsewhere a line
    /// stays one line.
    fn pieces(self, text: &str) -> Vec<String> {
        if !self.terminal {
            return vec![text.to_owned()];
        }
        let words = text.trim_start_matches(' ');
        let indent = " ".repeat(text.len() - words.len());
        let mut pieces = Vec::new();
        let mut piece = String::new();
        for word in words.split(' ') {
            let length = indent.len() + piece.chars().count() + 1 + word.chars().count();
            if !piece.is_empty() && length > WIDTH - 2 * INDENT {
                pieces.push(std::mem::take(&mut piece));
            }
            if !piece.is_empty() {
                piece.push(' ');
            }
            piece.push_str(word);
        }
        pieces.push(piece);
        pieces
            .into_iter()
            .map(|piece| format!("{indent}{piece}"))
            .collect()
    }

    fn styled(self, style: &str, text: &str) -> String {
        match self.coloured {
            true => format!("\x1b[{style}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn line(self, text: &str) {
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        self.put(&format!("{clear}{text}\n"));
    }

    fn put(self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        // Whoever closed the output does not read on; the demo's exit code still says how it went.
        let _closed = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_between_words_on_a_terminal_alone() {
        let long = "word ".repeat(40);
        let paint = |terminal| Paint {
            terminal,
            coloured: false,
        };
        assert_eq!(paint(false).pieces(&long).len(), 1);
        let pieces = paint(true).pieces(long.trim_end());
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().all(|piece| piece.len() <= WIDTH - 2 * INDENT));
        assert_eq!(pieces.join(" "), long.trim_end());
        assert_eq!(paint(true).pieces("  as it is"), ["  as it is"]);
        let pieces = paint(true).pieces(&format!("  {}", long.trim_end()));
        assert!(pieces.iter().all(|piece| piece.starts_with("  word")));
    }
}
