//! One sitting at a terminal: keys and pictures in, frames out, until the person leaves.
//!
//! The terminal is given back whatever happens: at the end, after an error, when the program is told to end (SIGTERM, SIGHUP,
//! SIGINT), and in a panic (ratatui's own hook). A panic anywhere ends the sitting: the screen is no longer its own.

use std::io::{self, Write};
use std::time::Duration;

use crossterm::clipboard::CopyToClipboard;
use crossterm::execute;
use engine::clock::{Clock, SystemClock};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::connection::Connection;
use crate::model::Model;
use crate::update::{Effect, Message, update};
use crate::view;

/// Messages that wait to be reacted to.
const MAX_MESSAGES: usize = 256;

/// Changes that wait to be made.
const MAX_ORDERS: usize = 16;

/// How often the ages on the screen are counted on.
const TICK: Duration = Duration::from_secs(1);

/// What comes from the terminal.
enum Input {
    Message(Message),
    Resized,
    Gone(io::Error),
}

/// Why a sitting is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The person left.
    ByKey,
    /// The program was told to end.
    BySignal,
}

/// Shows the model until it is over. Without a connection the picture stays as it is.
///
/// # Errors
/// When the terminal cannot be used, or goes away.
pub async fn run(model: Model, connection: Option<Connection>) -> io::Result<Left> {
    // Before the terminal is taken: from here on a signal is an orderly end.
    let mut told = Told::new()?;
    let mut terminal = ratatui::try_init()?;
    let outcome = sit(model, connection, &mut told, &mut terminal).await;
    ratatui::restore();
    outcome
}

async fn sit(
    mut model: Model,
    connection: Option<Connection>,
    told: &mut Told,
    terminal: &mut DefaultTerminal,
) -> io::Result<Left> {
    let (inputs, mut typed) = mpsc::channel(MAX_MESSAGES);
    // It ends with the process: a read of the terminal cannot be interrupted.
    std::thread::spawn(move || read_terminal(&inputs));
    let (messages, mut seen) = mpsc::channel(MAX_MESSAGES);
    let (orders, received) = mpsc::channel(MAX_ORDERS);
    let is_replay = connection.is_none();
    // Without a connection the sender stays here, and nothing is ever received.
    let mut reading = match connection {
        Some(connection) => tokio::spawn(connection.run(messages.clone(), received)),
        None => tokio::spawn(std::future::pending()),
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !model.over {
        terminal.draw(|frame| view::draw(&model, frame.area(), frame.buffer_mut()))?;
        let message = tokio::select! {
            input = typed.recv() => match input {
                Some(Input::Message(message)) => message,
                Some(Input::Resized) => continue,
                Some(Input::Gone(error)) => return Err(error),
                None => return Err(io::Error::other("the terminal cannot be read any more")),
            },
            () = told.ends() => return Ok(Left::BySignal),
            // It ends only with this sitting, unless it panics.
            ended = &mut reading => match ended.map_err(tokio::task::JoinError::try_into_panic) {
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                _ => return Err(io::Error::other("the database is not read any more")),
            },
            Some(message) = seen.recv() => message,
            _ = tick.tick(), if !is_replay => Message::Tick(SystemClock.now()),
        };
        for effect in update(&mut model, message) {
            match effect {
                Effect::Copy(text) => {
                    let mut stdout = io::stdout();
                    execute!(stdout, CopyToClipboard::to_clipboard_from(text))?;
                    stdout.flush()?;
                }
                effect => {
                    if orders.try_send(effect).is_err() {
                        model.note = Some(if is_replay {
                            "a recorded picture has no database behind it".to_owned()
                        } else {
                            "busy with the change before; nothing was done".to_owned()
                        });
                    }
                }
            }
        }
    }
    Ok(Left::ByKey)
}

/// The signals that tell a program to end.
struct Told {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
}

impl Told {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Until one of them comes.
    async fn ends(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn read_terminal(inputs: &mpsc::Sender<Input>) {
    loop {
        let input = match event::read() {
            Ok(Event::Key(key)) => Input::Message(Message::Key(key)),
            Ok(Event::Resize(..)) => Input::Resized,
            Ok(_) => continue,
            Err(error) => Input::Gone(error),
        };
        let is_gone = matches!(input, Input::Gone(_));
        if inputs.blocking_send(input).is_err() || is_gone {
            return;
        }
    }
}
