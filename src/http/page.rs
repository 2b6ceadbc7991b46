//! The HTML of the admin listener: whatever comes from elsewhere is escaped, and nothing on a page is active.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::sessions::CSRF_FIELD;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n\
    <meta name=\"color-scheme\" content=\"light dark\">\n<title>b24-janitor</title>\n</head>\n<body>\n\
    <h1>b24-janitor</h1>\n";

/// An answer with a page.
pub(super) fn html(status: StatusCode, page: String) -> Response {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(header::CONTENT_TYPE, kind)], page).into_response()
}

/// The login page.
pub(super) fn login(wrong: Option<&str>) -> String {
    let mut html = String::from(HEAD);
    if let Some(wrong) = wrong {
        html.push_str("<p role=\"alert\">");
        escape(wrong, &mut html);
        html.push_str("</p>\n");
    }
    html.push_str(
        "<form method=\"post\" action=\"/login\">\n<label>Admin token <input type=\"password\" name=\"token\" \
         autocomplete=\"current-password\" required autofocus></label>\n<button>Sign in</button>\n</form>\n\
         </body>\n</html>\n",
    );
    html
}

/// The overview: rows of name and value, and forms of one button each, path and label.
pub(super) fn overview(
    rows: &[(String, String)],
    csrf: Option<&str>,
    buttons: &[(&'static str, &'static str)],
) -> String {
    let mut html = String::from(HEAD);
    html.push_str("<table>\n");
    for (name, value) in rows {
        html.push_str("<tr><th scope=\"row\" align=\"left\">");
        escape(name, &mut html);
        html.push_str("</th><td>");
        escape(value, &mut html);
        html.push_str("</td></tr>\n");
    }
    html.push_str("</table>\n");
    for (path, label) in csrf.iter().flat_map(|_| buttons) {
        html.push_str("<form method=\"post\" action=\"");
        escape(path, &mut html);
        html.push_str("\"><input type=\"hidden\" name=\"");
        html.push_str(CSRF_FIELD);
        html.push_str("\" value=\"");
        escape(csrf.unwrap_or_default(), &mut html);
        html.push_str("\"><button>");
        escape(label, &mut html);
        html.push_str("</button></form>\n");
    }
    html.push_str(
        "<p><a href=\"/metrics\">metrics</a> · <a href=\"/readyz\">readiness</a></p>\n</body>\n</html>\n",
    );
    html
}

fn escape(text: &str, html: &mut String) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}
