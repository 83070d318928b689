//! What a block or input step asks a person, as a form. Whether the answers fit is the engine's to
//! say; the browser only helps.

use maud::{Markup, html};
use uuid::Uuid;

use super::layout::button;
use crate::engine::{Choice, Entry, Field, Form};

/// Up to so many choices, of which one must be taken, stand side by side.
const RADIO_BUTTONS: usize = 6;

/// A button, with the fields behind it where the step has some.
pub(super) fn draw(step: Uuid, form: &Form, to: &str) -> Markup {
    if form.fields.is_empty() {
        return button(to, "Unblock");
    }
    html! {
        details.more id={ "form-" (step) } {
            summary { "Fill in and unblock" }
            form.answers method="post" action=(to) {
                @for field in &form.fields { (of_field(field)) }
                div { button type="submit" { "Unblock" } }
            }
        }
    }
}

fn of_field(field: &Field) -> Markup {
    html! {
        fieldset {
            legend { (field.label) @if !field.required { " " span.soft { "optional" } } }
            @if let Some(hint) = &field.hint { p.hint { (hint) } }
            @match &field.entry {
                Entry::Text { default, format } => {
                    @let value = default.as_deref().unwrap_or_default();
                    @if value.contains('\n') {
                        textarea name=(field.key) rows="4" required[field.required]
                            aria-label=(field.label) { "\n" (value) }
                    } @else {
                        input type="text" name=(field.key) value=(value) required[field.required]
                            aria-label=(field.label) pattern=[format.as_ref().map(|f| f.written())];
                    }
                },
                Entry::Select { options, multiple, default } => {
                    (select(field, options, *multiple, default))
                },
            }
        }
    }
}

fn select(field: &Field, options: &[Choice], multiple: bool, default: &[String]) -> Markup {
    let is_default = |option: &Choice| default.contains(&option.value);
    let kind = if multiple { "checkbox" } else { "radio" };
    html! {
        // What is not ticked is not sent, and a field that is not sent would take its default.
        input type="hidden" name=(field.key) value="";
        @if multiple || (field.required && options.len() <= RADIO_BUTTONS) {
            @for option in options {
                label.choice {
                    input type=(kind) name=(field.key) value=(option.value)
                        checked[is_default(option)] required[field.required && !multiple];
                    " " (option.label)
                }
            }
        } @else {
            select name=(field.key) required[field.required] aria-label=(field.label) {
                option value="" { }
                @for option in options {
                    option value=(option.value) selected[is_default(option)] { (option.label) }
                }
            }
        }
    }
}
