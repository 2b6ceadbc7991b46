//! Numbers as people read them. Only for people: what programs read has plain digits.

/// A number with its digits in groups of three.
///
/// ```
/// assert_eq!(b24_janitor::core::figure::thousands(4210), "4,210");
/// ```
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let told = [0, 999, 1000, 4210, 1_234_567].map(thousands);
        assert_eq!(told, ["0", "999", "1,000", "4,210", "1,234,567"]);
    }
}
