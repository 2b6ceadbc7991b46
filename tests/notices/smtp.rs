//! A mail server on the loopback, one conversation after the other: it takes everybody but those whom it is told to
//! refuse, and answers the mail itself as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Recipients, and what is said the next times that one asks for them.
type Refused = BTreeMap<String, VecDeque<&'static str>>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<String>>,
}

impl Server {
    /// Listens; `answer` is what it says to the mail, `refused` what to recipients, each time the next.
    pub(crate) async fn refusing(answer: &'static str, refused: &[(&str, &[&'static str])]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(String::new()));
        let mut refused: Refused =
            refused.iter().map(|(who, said)| (format!("<{who}>"), said.iter().copied().collect())).collect();
        let hears = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                talk(stream, answer, &mut refused, &hears).await;
            }
        });
        Server { address, heard }
    }

    /// All that was said to it so far: whoever was answered was heard.
    pub(crate) fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

async fn talk(stream: TcpStream, answer: &'static str, refused: &mut Refused, heard: &Mutex<String>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut in_mail = false;
    write.write_all(b"220 test ESMTP\r\n").await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        heard.lock().unwrap().push_str(&format!("{line}\n"));
        let recipient = line.strip_prefix("RCPT TO:").and_then(|to| refused.get_mut(to)?.pop_front());
        let said = match line.split(' ').next().unwrap() {
            "." if in_mail => {
                in_mail = false;
                answer
            }
            _ if in_mail => continue,
            "EHLO" => "250-test\r\n250 AUTH PLAIN",
            "AUTH" => "235 welcome",
            "RCPT" => recipient.unwrap_or("250 ok"),
            "DATA" => {
                in_mail = true;
                "354 go on"
            }
            "QUIT" => break,
            _ => "250 ok",
        };
        if write.write_all(format!("{said}\r\n").as_bytes()).await.is_err() {
            break;
        }
    }
}
