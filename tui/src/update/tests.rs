use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::*;
use crate::view::tests::{LOOKS, failing, healthy, picture};

fn model(read_only: bool) -> Model {
    let picture = failing();
    let mut model = Model::new(picture.taken, LOOKS, read_only, "dba@db1".to_owned());
    update(&mut model, Message::Seen(Box::new(picture)));
    model
}

fn key(code: KeyCode) -> Message {
    Message::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn press(model: &mut Model, keys: &str) -> Vec<Effect> {
    let keys = keys.chars().map(KeyCode::Char);
    keys.flat_map(|code| update(model, key(code))).collect()
}

#[test]
fn a_source_is_paused_only_after_a_yes_that_names_it() {
    let mut model = model(false);
    assert_eq!(press(&mut model, "p"), []);
    let Some(Overlay::Confirm(order)) = &model.overlay else {
        panic!("{:?}", model.overlay);
    };
    assert_eq!(order.touches, "Pause invoices");
    assert_eq!(press(&mut model, "n"), []);
    assert_eq!(model.note.as_deref(), Some("nothing was changed"));
    let effects = press(&mut model, "py");
    let [Effect::Change(Change::Pause(pause))] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!((pause.by.as_str(), pause.scope.lane), ("dba@db1", None));
}

#[test]
fn what_is_paused_is_resumed_by_the_same_key() {
    let mut model = model(false);
    // The second source of the picture is paused as a whole: its lanes offer just that.
    press(&mut model, "jp");
    let asked = |model: &Model| match &model.overlay {
        Some(Overlay::Confirm(order)) => order.touches.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&model), "Resume orders");
    press(&mut model, "n2G");
    press(&mut model, "p");
    assert_eq!(asked(&model), "Resume orders");
    let effects = press(&mut model, "y");
    assert!(matches!(&effects[..], [Effect::Change(Change::Resume(_))]));
}

#[test]
fn a_lane_is_retried_by_itself_and_what_has_not_failed_is_not() {
    let mut model = model(false);
    let effects = press(&mut model, "3ry");
    let [Effect::Change(Change::Retry(scope))] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(scope.lane, Some(1));
    let change = Change::Retry(*scope);
    update(&mut model, Message::Changed(change.clone(), Ok(1)));
    assert!(model.note.as_ref().unwrap().contains("1 file is due now"));
    update(&mut model, Message::Changed(change, Err("busy".to_owned())));
    assert!(model.events[0].text.contains("retry failed: busy"));
    let picture = healthy();
    update(&mut model, Message::Seen(Box::new(picture)));
    press(&mut model, "1r");
    assert_eq!(model.overlay, None);
    assert_eq!(
        model.note.as_deref(),
        Some("nothing of invoices has failed")
    );
}

#[test]
fn a_console_that_only_reads_asks_for_no_change() {
    let mut model = model(true);
    let effects = press(&mut model, "rypy2rypy3rypy4rypy");
    let copies = |effect: &Effect| matches!(effect, Effect::Copy(_));
    assert!(effects.iter().all(copies), "{effects:?}");
    assert_eq!(model.overlay, None);
}

#[test]
fn the_plan_of_a_row_is_copied_as_a_command() {
    let mut model = model(true);
    let effects = press(&mut model, "c");
    let command = "gtide-restore plan --to-time 2026-11-22T11:59:30.25Z".to_owned();
    assert_eq!(effects, [Effect::Copy(command)]);
}

#[test]
fn a_filter_keeps_only_its_rows_and_escape_drops_it() {
    let mut model = model(false);
    press(&mut model, "/ord");
    update(&mut model, key(KeyCode::Enter));
    let names: BTreeSet<&str> = model
        .routes()
        .iter()
        .map(crate::rows::RouteRow::name)
        .collect();
    assert_eq!(names, BTreeSet::from(["orders"]));
    // Typed text is text: q does not leave.
    press(&mut model, "/q");
    assert!(!model.over);
    update(&mut model, key(KeyCode::Esc));
    assert_eq!((model.filter.as_str(), model.routes().len()), ("", 3));
}

#[test]
fn a_detail_awaits_the_record_of_its_own_file() {
    let mut model = model(false);
    press(&mut model, "2");
    let effects = update(&mut model, key(KeyCode::Enter));
    let [Effect::ReadFile(asked)] = &effects[..] else {
        panic!("{effects:?}");
    };
    let other = FileKey {
        sequence: engine::layout::Sequence(999),
        ..*asked
    };
    let lines = |model: &Model| match &model.overlay {
        Some(Overlay::Detail(detail)) => detail.lines.clone(),
        other => panic!("{other:?}"),
    };
    let before = lines(&model);
    update(&mut model, Message::File(other, Ok(None)));
    assert_eq!(lines(&model), before);
    update(&mut model, Message::File(*asked, Ok(None)));
    assert_eq!(lines(&model).len(), before.len() + 1);
}

#[test]
fn what_changes_between_two_pictures_is_an_event() {
    let mut model = model(false);
    assert!(
        model.events.is_empty(),
        "what was there before did not happen"
    );
    update(&mut model, Message::Lost("database is locked".to_owned()));
    update(&mut model, Message::Lost("database is locked".to_owned()));
    assert_eq!(model.events.len(), 1);
    update(&mut model, Message::Seen(Box::new(healthy())));
    let texts: Vec<&str> = model
        .events
        .iter()
        .map(|event| event.text.as_str())
        .collect();
    assert!(
        texts
            .iter()
            .any(|text| text.starts_with("can be read again")),
        "{texts:?}"
    );
    assert!(texts.contains(&"no longer stalled"), "{texts:?}");
    assert!(
        texts.iter().any(|text| text.contains("2 files archived")),
        "{texts:?}"
    );
    update(&mut model, Message::Seen(Box::new(failing())));
    assert!(
        model
            .events
            .iter()
            .any(|event| event.text.starts_with("stalled: "))
    );
}

#[test]
fn ctrl_c_leaves_whatever_is_open() {
    for keys in ["", "?", "p", "/abc", "2"] {
        let mut model = model(false);
        press(&mut model, keys);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        update(&mut model, Message::Key(ctrl_c));
        assert!(model.over, "after {keys:?}");
    }
}

fn any_key() -> impl Strategy<Value = KeyCode> {
    let mut keys: Vec<KeyCode> = crate::keys::BINDINGS
        .iter()
        .flat_map(|binding| binding.keys.iter().copied())
        .filter(|key| *key != KeyCode::Char('q'))
        .collect();
    keys.extend([KeyCode::Char('x'), KeyCode::Backspace, KeyCode::F(1)]);
    select(keys)
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        12 => any_key().prop_map(key),
        1 => Just(Message::Seen(Box::new(failing()))),
        1 => Just(Message::Seen(Box::new(healthy()))),
        1 => Just(Message::Seen(Box::new(picture(&[])))),
        1 => Just(Message::Lost("gone\u{1b}[2J".to_owned())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, the cursor stands on a row, a change comes only from a question, a console that only reads
    /// changes nothing, and what there is can be drawn.
    #[test]
    fn whatever_happens_the_model_is_sound(
        read_only in any::<bool>(),
        messages in prop::collection::vec(any_message(), 0..80),
        (width, height) in (0u16..=200, 0u16..=60),
    ) {
        let mut model = model(read_only);
        for message in messages {
            let asked = matches!(model.overlay, Some(Overlay::Confirm(_)));
            let effects = update(&mut model, message);
            let changes = effects.iter().any(|e| matches!(e, Effect::Change(_)));
            prop_assert!(!changes || (asked && !read_only));
            let rows = model.len();
            prop_assert!(model.cursor().row < rows.max(1));
            prop_assert!(model.cursor().order < model.screen.orders().len());
        }
        let area = Rect::new(0, 0, width, height);
        crate::view::draw(&model, area, &mut Buffer::empty(area));
    }
}
