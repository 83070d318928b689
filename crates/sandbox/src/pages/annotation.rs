//! Annotations: the part of Markdown that people use in them (headings, lists, code, emphasis,
//! links), everything else as the text that it is. No markup of the author's gets through.

use maud::{Markup, html};

use super::inline;
use crate::engine::Annotation;

pub(super) fn sorted(annotations: &[Annotation]) -> Vec<&Annotation> {
    let mut sorted: Vec<&Annotation> = annotations.iter().collect();
    sorted.sort_by_key(|annotation| std::cmp::Reverse(annotation.priority));
    sorted
}

pub(super) fn draw(annotation: &Annotation) -> Markup {
    let style = match annotation.style.as_deref() {
        Some(known @ ("success" | "info" | "warning" | "error")) => known,
        Some(_) | None => "plain",
    };
    html! {
        section.note.(style) aria-label={ "annotation " (annotation.context) } {
            @for block in blocks(&annotation.body) { (of_block(&block)) }
        }
    }
}

/// The body as the REST API shows it.
pub(crate) fn html(body: &str) -> String {
    blocks(body).iter().map(|block| of_block(block).into_string()).collect()
}

#[derive(Debug, PartialEq)]
enum Block<'a> {
    Heading(&'a str),
    Paragraph(Vec<&'a str>),
    List(Vec<&'a str>),
    Code(Vec<&'a str>),
}

fn blocks(body: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut in_code = false;
    for line in body.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            if in_code {
                blocks.push(Block::Code(Vec::new()));
            } else {
                blocks.push(Block::Paragraph(Vec::new()));
            }
            continue;
        }
        if in_code {
            if let Some(Block::Code(lines)) = blocks.last_mut() {
                lines.push(line);
            }
            continue;
        }
        plain_line(line.trim(), &mut blocks);
    }
    blocks.retain(|block| !matches!(block, Block::Paragraph(lines) if lines.is_empty()));
    blocks
}

fn plain_line<'a>(line: &'a str, blocks: &mut Vec<Block<'a>>) {
    let heading = line.trim_start_matches('#');
    if line.starts_with('#') && heading.starts_with(' ') {
        blocks.push(Block::Heading(heading.trim()));
    } else if let Some(item) = line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")) {
        match blocks.last_mut() {
            Some(Block::List(items)) => items.push(item),
            Some(_) | None => blocks.push(Block::List(vec![item])),
        }
    } else if line.is_empty() {
        blocks.push(Block::Paragraph(Vec::new()));
    } else {
        match blocks.last_mut() {
            Some(Block::Paragraph(lines)) => lines.push(line),
            Some(_) | None => blocks.push(Block::Paragraph(vec![line])),
        }
    }
}

fn of_block(block: &Block<'_>) -> Markup {
    html! {
        @match block {
            Block::Heading(text) => { h3 { (inline::draw(text)) } },
            Block::Paragraph(lines) => {
                p { @for (n, line) in lines.iter().enumerate() { @if n > 0 { br; } (inline::draw(line)) } }
            },
            Block::List(items) => { ul { @for item in items { li { (inline::draw(item)) } } } },
            Block::Code(lines) => { pre { (lines.join("\n")) } },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::html;

    #[track_caller]
    fn check(body: &str, expected: &str) {
        assert_eq!(html(body), expected);
    }

    #[test]
    fn markdown() {
        check("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>");
        check("# Head\ntext", "<h3>Head</h3><p>text</p>");
        check("#not a heading", "<p>#not a heading</p>");
        check("- a\n- b\ntext", "<ul><li>a</li><li>b</li></ul><p>text</p>");
        check("```\n# x <b>\n```\nafter", "<pre># x &lt;b&gt;</pre><p>after</p>");
        check("```\nnever closed", "<pre>never closed</pre>");
        check("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>");
    }
}
