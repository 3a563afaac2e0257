//! Draws the outline of a plan: lead, base, way.

mod base;
mod lead;

use engine::gtid::GtidSet;

use self::base::{begin, by_position_if_need_be};
use self::lead::{Candidate, candidates, choose};
use super::refusal::texts;
use super::{Base, Inputs, LeftOut, Refusal};
use crate::cut::Mark;
use crate::path::{Goal, Way};
use crate::target::{Elsewhere, Probe, Spot, Target};

/// What a plan is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The target on the lead.
    pub goal: Goal,
    /// The transaction before the target, where it is known.
    pub last: Option<Mark>,
    /// The transaction behind it, where it is known.
    pub next: Option<Mark>,
    /// Where to begin.
    pub base: Base,
    /// What is executed there.
    pub start: GtidSet,
    /// The way.
    pub way: Way,
    /// What other lines have.
    pub left_out: Vec<LeftOut>,
    /// What to think of.
    pub warnings: Vec<String>,
}

/// Why there is no outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Find these cuts, and ask again.
    Probes(Vec<Probe>),
    /// There is none.
    Refused(Box<Refusal>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// Draws the outline.
///
/// # Errors
/// When cuts must be found first, or there is no plan.
pub fn draw(inputs: Inputs<'_>) -> Result<Outline, Stop> {
    let candidates = candidates(inputs)?;
    let lead = choose(inputs, &candidates)?;
    let executed = &lead.goal.executed;
    let unknown = inputs.skip.subtract(executed);
    if !unknown.is_empty() {
        return Err(Refusal::NothingToSkip(unknown).into());
    }
    let (base, start, way, mut warnings) = begin(inputs, &lead.goal)?;
    let way = by_position_if_need_be(inputs, &lead.goal, (&base, &start), way, &mut warnings)?;
    let left_out = left_out(inputs, &candidates, lead.goal.at.line);
    warn(inputs, lead, &left_out, &way, &mut warnings);
    Ok(Outline {
        goal: lead.goal.clone(),
        last: lead.last.clone(),
        next: lead.cut.as_ref().and_then(|cut| cut.next.clone()),
        base,
        start,
        way,
        left_out,
        warnings,
    })
}

/// What other lines had executed by the target and the lead never learns of.
fn left_out(inputs: Inputs<'_>, candidates: &[Candidate], lead: usize) -> Vec<LeftOut> {
    let Some(lead_line) = inputs.timeline.line(lead) else {
        return Vec::new();
    };
    let mut left_out = Vec::new();
    for (number, line) in inputs.timeline.lines().iter().enumerate() {
        let found = candidates.iter().find(|c| c.goal.at.line == number);
        let ended = matches!(
            inputs.target.on(line),
            Spot::Nowhere(Elsewhere::Behind) | Spot::EndOf { .. }
        );
        let executed = match found {
            _ if number == lead => continue,
            Some(candidate) => &candidate.goal.executed,
            None if ended => line.known(),
            None => continue,
        };
        let gtids = executed.subtract(lead_line.known());
        if !gtids.is_empty() {
            left_out.push(LeftOut {
                source: line.source.clone(),
                gtids,
            });
        }
    }
    left_out
}

fn warn(
    inputs: Inputs<'_>,
    lead: &Candidate,
    left_out: &[LeftOut],
    way: &Way,
    warnings: &mut Vec<String>,
) {
    for LeftOut { source, gtids } in left_out {
        warnings.push(format!(
            "left out: {gtids}, which only {source} has: errant, or of a history that parted"
        ));
    }
    if !inputs.skip.is_empty() {
        warnings.push(format!(
            "left out on request: {}; what follows may depend on it, and gtid_executed will lack it",
            inputs.skip
        ));
    }
    if let (Target::Time { time }, Some(line)) =
        (inputs.target, inputs.timeline.line(lead.goal.at.line))
    {
        let behind = line
            .files()
            .iter()
            .skip(lead.goal.at.file.saturating_add(1));
        let stragglers = lead.cut.as_ref().is_some_and(|cut| cut.stragglers)
            || behind
                .clone()
                .any(|file| file.commits.is_some_and(|(earliest, _)| earliest <= *time));
        if stragglers {
            warnings.push(
                "commit times do not ascend: transactions committed before the target stand behind the first one committed after it, and are left out"
                    .to_owned(),
            );
        }
    }
    if let (Target::Position { position }, Some(offset)) =
        (inputs.target, lead.cut.as_ref().and_then(|cut| cut.offset))
        && offset != position.offset
    {
        warnings.push(format!(
            "{position} is not between two transactions: the plan stops at {offset}"
        ));
    }
    for passed in texts(&way.passed) {
        warnings.push(format!("passed, as was asked for: {passed}"));
    }
}
