//! Numbers as text.

/// A number in decimal digits, at least so many (20 at most), written into `buffer`.
pub fn decimal(buffer: &mut [u8; 20], mut number: u64, least: usize) -> &[u8] {
    let mut written = 0;
    for digit in buffer.iter_mut().rev() {
        if number == 0 && written >= least.max(1) {
            break;
        }
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        written += 1;
    }
    buffer.get(20 - written..).unwrap_or_default()
}

/// Appends a number in decimal digits.
pub fn push_number(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(decimal(&mut [0; 20], number, 1));
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
            assert_eq!(decimal(&mut [0; 20], number, 4), format!("{number:04}").as_bytes());
        }
        assert_eq!(decimal(&mut [0; 20], 7, 99), format!("{:020}", 7).as_bytes());
        assert_eq!(decimal(&mut [0; 20], 0, 0), b"0");
    }
}
