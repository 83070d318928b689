//! Why a job is not ours, or is ours and can never work.

use std::fmt;

use crate::{Foreign, Invalid, Refusal};

use super::capital;

impl Invalid {
    /// As metrics and JSON name it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Tag(_) => "tag",
            Self::NoOffer { .. } => "no_offer",
            Self::UnknownTag { .. } => "unknown_tag",
        }
    }

    /// What is wrong, in one line without the remedy.
    pub(super) fn problem(&self) -> String {
        match self {
            Self::Tag(error) => format!("{}: {}", error.tag, error.problem),
            Self::NoOffer { shape, .. } => format!("nothing here makes a machine of {shape}"),
            Self::UnknownTag { tag, .. } => {
                format!("{tag}: no agent of this queue carries this tag")
            }
        }
    }

    /// What would be right. For a shape that nothing makes, each backend says its own.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Tag(error) => capital(&error.remedy),
            Self::NoOffer { why, .. } if why.is_empty() => {
                "The queue has no backend; its operator has to name one.".into()
            }
            Self::NoOffer { why, .. } => why.join("\n"),
            Self::UnknownTag { nearest: Some(nearest), .. } => format!("Did you mean {nearest}?"),
            Self::UnknownTag { nearest: None, .. } => {
                "Leave the tag out, or name another queue".into()
            }
        }
    }
}

/// All of it, with the remedy; a shape that nothing makes takes a line for each backend.
impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = match self {
            Self::Tag(_) | Self::UnknownTag { .. } => ". ",
            Self::NoOffer { .. } => ":\n",
        };
        write!(f, "{}{between}{}", self.problem(), self.remedy())
    }
}

impl Foreign {
    /// As metrics and JSON name it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::UnknownTag { .. } => "unknown_tag",
            Self::OtherValue { .. } => "other_value",
            Self::OtherQueue { .. } => "other_queue",
        }
    }
}

/// One line.
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTag { tag, nearest: None } => {
                write!(f, "not for us: {tag} is neither a word of ours nor a tag of the queue's")
            }
            Self::UnknownTag { tag, nearest: Some(nearest) } => {
                write!(f, "not for us: {tag} is no word of ours. Did you mean {nearest}?")
            }
            Self::OtherValue { tag, ours } => {
                write!(f, "not for us: it asks for {tag}, and our agents carry {ours}")
            }
            Self::OtherQueue { queue } => {
                write!(f, "not for us: queue {queue} is not one that we serve here")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Foreign(foreign) => foreign.fmt(f),
        }
    }
}
