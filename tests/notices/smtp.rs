//! A mail server of one conversation on the loopback: it takes everything, and answers the mail itself as it is told.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    heard: JoinHandle<String>,
}

impl Server {
    /// Listens; `answer` is what it says to the mail.
    pub(crate) async fn start(answer: &'static str) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            let (mut heard, mut in_mail) = (String::new(), false);
            write.write_all(b"220 test ESMTP\r\n").await.unwrap();
            while let Ok(Some(line)) = lines.next_line().await {
                heard.push_str(&line);
                heard.push('\n');
                let said = match line.split(' ').next().unwrap() {
                    "." if in_mail => {
                        in_mail = false;
                        answer
                    }
                    _ if in_mail => continue,
                    "EHLO" => "250-test\r\n250 AUTH PLAIN",
                    "AUTH" => "235 welcome",
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
            heard
        });
        Server { address, heard }
    }

    /// All that was said to it, once the client has gone.
    pub(crate) async fn mail(self) -> String {
        self.heard.await.unwrap()
    }
}
