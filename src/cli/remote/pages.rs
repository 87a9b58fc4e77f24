//! A list that the broker gives page by page, as a whole.

use crate::client::ClientError;

/// As many as the broker gives at once.
pub(super) const PAGE: u32 = 1000;

/// All entries. `page` asks for the page of a token, and answers its entries and the token of the next one, empty on the
/// last.
pub(super) async fn all<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), ClientError>,
) -> Result<Vec<T>, ClientError> {
    let (mut entries, mut token) = (Vec::new(), String::new());
    loop {
        let (more, next) = page(token).await?;
        entries.extend(more);
        if next.is_empty() {
            return Ok(entries);
        }
        token = next;
    }
}
