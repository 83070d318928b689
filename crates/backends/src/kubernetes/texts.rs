//! Texts that many objects bear, each kept once: of thousands of pods most are on one of few nodes,
//! of one of few queues, and in one of few states.

use std::collections::HashSet;
use std::sync::Arc;

use super::seen::{Condition, Container, Job, Meta, Pod};

/// So many are kept without a look at who still needs them.
const FEW: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Texts {
    known: HashSet<Arc<str>>,
    /// How many there were after the last look.
    needed: usize,
}

/// What bears texts that others bear as well.
pub(super) trait Bears {
    fn each_text(&mut self, take: &mut dyn FnMut(&mut Arc<str>));
}

impl Texts {
    /// Puts what is known already in the place of what is the same.
    pub(super) fn share(&mut self, object: &mut impl Bears) {
        object.each_text(&mut |text| match self.known.get(text) {
            Some(known) => *text = Arc::clone(known),
            None => {
                self.known.insert(Arc::clone(text));
            }
        });
        if self.known.len() > FEW.max(2 * self.needed) {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.needed = self.known.len();
        }
    }
}

impl Bears for Job {
    fn each_text(&mut self, take: &mut dyn FnMut(&mut Arc<str>)) {
        self.metadata.each_text(take);
        self.status.conditions.iter_mut().for_each(|one| one.each_text(take));
    }
}

impl Bears for Pod {
    fn each_text(&mut self, take: &mut dyn FnMut(&mut Arc<str>)) {
        self.metadata.each_text(take);
        take(&mut self.phase);
        let texts = [&mut self.node, &mut self.reason, &mut self.message];
        texts.into_iter().flatten().for_each(&mut *take);
        self.conditions.iter_mut().for_each(|one| one.each_text(take));
        self.main.iter_mut().chain(&mut self.before).for_each(|one| one.each_text(take));
    }
}

impl Bears for Meta {
    fn each_text(&mut self, take: &mut dyn FnMut(&mut Arc<str>)) {
        // What is shared already has been here before.
        if let Ok(labels) = &mut self.labels
            && let Some(labels) = Arc::get_mut(labels)
        {
            let texts = [
                &mut labels.mark,
                &mut labels.instance,
                &mut labels.queue,
                &mut labels.dispatch_id,
            ];
            texts.into_iter().for_each(&mut *take);
        }
        [&mut self.secret, &mut self.kueue_queue].into_iter().flatten().for_each(take);
    }
}

impl Bears for Condition {
    fn each_text(&mut self, take: &mut dyn FnMut(&mut Arc<str>)) {
        take(&mut self.kind);
        take(&mut self.status);
        [&mut self.reason, &mut self.message].into_iter().flatten().for_each(take);
    }
}

impl Bears for Container {
    fn each_text(&mut self, take: &mut dyn FnMut(&mut Arc<str>)) {
        take(&mut self.name);
        take(&mut self.image);
        if let Some(waiting) = &mut self.state.waiting {
            take(&mut waiting.reason);
            take(&mut waiting.message);
        }
        if let Some(terminated) = &mut self.state.terminated {
            take(&mut terminated.reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(node: &str) -> Container {
        Container { name: node.into(), ..Container::default() }
    }

    #[test]
    fn what_two_bear_is_kept_once_and_what_nobody_bears_is_not() {
        let mut texts = Texts::default();
        let (mut one, mut other) = (on("a"), on("a"));
        texts.share(&mut one);
        texts.share(&mut other);
        assert!(Arc::ptr_eq(&one.name, &other.name));
        for number in 0..10 * FEW {
            texts.share(&mut on(&number.to_string()));
        }
        assert!(texts.known.len() <= FEW + 1, "{}", texts.known.len());
        assert!(texts.known.contains("a"), "it is borne still");
    }
}
