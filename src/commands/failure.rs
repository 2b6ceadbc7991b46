//! How a command ends when it does not succeed, and which exit status that is.

use std::process::ExitCode;

use crate::engine::EngineError;
use crate::settings::Problem;
use crate::store::StoreError;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// Wrong usage, settings or rules: exit status 2. Each entry is a whole message.
    Usage(Vec<String>),
    /// It failed: exit status 1.
    Failed(anyhow::Error),
    /// A run is held and needs a person: exit status 3. The message was printed already.
    Held,
}

impl Failure {
    /// A failure in one sentence.
    pub(super) fn of(message: impl std::fmt::Display) -> Failure {
        Failure::Failed(anyhow::anyhow!("{message}"))
    }

    /// Wrong usage in one sentence.
    pub(super) fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage(vec![message.into()])
    }

    /// Everything that is wrong with the settings.
    pub(super) fn settings(problems: &[Problem]) -> Failure {
        Failure::Usage(problems.iter().map(ToString::to_string).collect())
    }

    /// The exit status.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Failed(_) => ExitCode::from(1),
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Held => ExitCode::from(3),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Failed(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Failed(anyhow::Error::new(error).context("the database failed"))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        Failure::Failed(anyhow::Error::new(error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Failed(anyhow::Error::new(error))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::Failed(anyhow::Error::new(error))
    }
}
