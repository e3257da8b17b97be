//! Numbers as text.

/// Appends a number in decimal digits.
pub fn push_number(to: &mut Vec<u8>, mut number: u64) {
    let begin = to.len();
    loop {
        to.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = to.get_mut(begin..) {
        digits.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for number in [0, 9, 10, 1_234_567, u64::MAX] {
            let mut digits = Vec::new();
            push_number(&mut digits, number);
            assert_eq!(String::from_utf8(digits).unwrap(), number.to_string());
        }
    }
}
