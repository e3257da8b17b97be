//! The rows, by what they are about. Row 21 needs limits by key, and row 43 budgets; both come later.

mod connections;
mod framing;
mod http2;
mod life;
mod requests;
mod sizes;
mod tls;
mod upstream;

use crate::row::Row;

/// Every row, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    let groups: [fn() -> Vec<Row>; 7] =
        [connections::rows, framing::rows, sizes::rows, requests::rows, http2::rows, upstream::rows, life::rows];
    let mut rows: Vec<Row> = groups.into_iter().flat_map(|group| group()).collect();
    rows.sort_by_key(|row| row.number);
    rows
}

/// A row with the ordinary setup.
fn plain(
    number: u8,
    is_star: bool,
    title: &'static str,
    run: fn(&mut crate::row::Stage<'_>) -> crate::row::Outcome,
) -> Row {
    Row { number, is_star, title, setup: crate::row::PLAIN, run }
}
