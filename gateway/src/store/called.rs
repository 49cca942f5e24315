//! What devices and sites call themselves in clinical protocols: AE titles of DICOM, facilities of HL7 v2.

use gateway_clinical::dicom::AeTitle;

/// The longest name of a facility, in bytes: an HD of HL7 v2 with a namespace of its own length.
const MAX_FACILITY: usize = 200;

/// Names to give and to take. Taking one that is not held, and giving one that is, changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamesEdit {
    /// To give.
    pub give: Vec<String>,
    /// To take; wins over giving.
    pub take: Vec<String>,
}

impl NamesEdit {
    pub(super) fn apply(&self, held: &[String]) -> Vec<String> {
        let all = held.iter().chain(&self.give).filter(|name| !self.take.contains(name));
        let mut all: Vec<String> = all.cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

/// How names are written in a column.
pub(super) fn text(names: &[String]) -> String {
    names.join("\n")
}

/// Reads a column.
pub(super) fn names(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// An AE title (PS3.5 section 6.2), without the spaces around it, which mean nothing.
///
/// # Errors
/// Says what one is.
pub fn ae_title(text: &str) -> Result<String, String> {
    let title = AeTitle::new(text).ok_or("it must have 1 to 16 printable ASCII characters, and no backslash")?;
    Ok(title.as_str().to_owned())
}

/// A facility: the namespace or the universal id of an HD, without separators of HL7 v2.
///
/// # Errors
/// Says what one is.
pub fn facility(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_name = !text.is_empty()
        && text.len() <= MAX_FACILITY
        && !text.chars().any(|c| c.is_control() || matches!(c, '|' | '^' | '~' | '\\' | '&'));
    if !is_name {
        return Err(format!("it must have 1 to {MAX_FACILITY} bytes, and no control character and none of `|^~\\&`"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling_and_come_back_from_their_column() {
        assert_eq!(ae_title(" CT 1 ").unwrap(), "CT 1");
        assert!(ae_title("A\\B").is_err() && ae_title("12345678901234567").is_err() && ae_title(" ").is_err());
        assert_eq!(facility(" さくら医院 ").unwrap(), "さくら医院");
        assert!(facility("A^B").is_err() && facility("").is_err() && facility("A\nB").is_err());
        let edit = NamesEdit { give: vec!["B".into(), "A".into(), "C 1".into()], take: vec!["C".into()] };
        let all = edit.apply(&["C".to_owned(), "A".to_owned()]);
        assert_eq!(all, ["A", "B", "C 1"]);
        assert_eq!(names(&text(&all)), all);
        assert_eq!(names(&text(&[])), [] as [String; 0]);
    }
}
