//! Reads Rust as tokens, as far as imports need it.

/// Words, `::` and single characters; comments, strings and characters left out.
pub(crate) fn tokens(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = get(at);
        if c == '/' && get(at + 1) == '/' {
            while at < chars.len() && get(at) != '\n' {
                at += 1;
            }
        } else if c == '"' {
            at += 1;
            while at < chars.len() && get(at) != '"' {
                at += if get(at) == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if matches!(c, 'r' | 'b') && raw_string_hashes(&chars, at).is_some() {
            let hashes = raw_string_hashes(&chars, at).unwrap_or_default();
            let close: String = std::iter::once('"').chain("#".repeat(hashes).chars()).collect();
            while get(at) != '"' {
                at += 1;
            }
            at += 1;
            while at < chars.len() && !close.chars().enumerate().all(|(i, c)| get(at + i) == c) {
                at += 1;
            }
            at += close.chars().count();
        } else if c == '\'' {
            // A character ends with a quote soon; a lifetime doesn't.
            at += match (get(at + 1), get(at + 2)) {
                ('\\', _) => (2..14).find(|n| get(at + n + 1) == '\'').map_or(1, |n| n + 2),
                (_, '\'') => 3,
                _ => 1,
            };
        } else if is_word(c) {
            let start = at;
            while is_word(get(at)) {
                at += 1;
            }
            tokens.push(chars.get(start..at).unwrap_or_default().iter().collect());
        } else if c == ':' && get(at + 1) == ':' {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            at += 1;
        }
    }
    tokens
}

/// How many `#` a raw string that begins here has; `None` if none begins.
fn raw_string_hashes(chars: &[char], at: usize) -> Option<usize> {
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    if at > 0 && (get(at - 1).is_alphanumeric() || get(at - 1) == '_') {
        return None;
    }
    let r = if get(at) == 'b' { at + 1 } else { at };
    if get(r) != 'r' {
        return None;
    }
    let hashes = (0..).take_while(|n| get(r + 1 + n) == '#').count();
    (get(r + 1 + hashes) == '"').then_some(hashes)
}
