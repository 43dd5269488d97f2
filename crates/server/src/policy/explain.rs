//! Why nothing permits it: for each permit whose scope fits, the first condition that fails, what it
//! wanted and what it got.

use std::sync::Arc;

use cedar_policy::pst::{self, BinaryOp, Expr, Literal, PatternElem, UnaryOp, Var};
use cedar_policy::{Effect, Entities, EvalResult, Expression, Policy, Request, eval_expression};

use super::load::Statement;
use super::verdict::Nearest;

/// How many permits are looked at, and how many of them are told.
const LOOKED_AT: usize = 32;
const TOLD: usize = 5;
/// How much of a condition or a value is told.
const TEXT: usize = 256;

/// One condition of a policy, which has to hold for the policy to hold.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    text: String,
    condition: Expression,
    /// What the condition must be.
    must_be: bool,
    wanted: String,
    /// What is shown as got; none where the condition itself says it all.
    probe: Option<Expression>,
    claim: Option<String>,
}

/// The permits among these statements that came nearest, the nearest first.
pub(super) fn nearest<'a>(
    statements: impl Iterator<Item = &'a Statement>,
    request: &Request,
    entities: &Entities,
) -> Vec<Nearest> {
    let mut found: Vec<Nearest> = statements
        .filter(|s| !s.observe && s.policy.effect() == Effect::Permit)
        .take(LOOKED_AT)
        .filter_map(|statement| first_failure(statement, request, entities))
        .collect();
    found.sort_by_key(|nearest| nearest.missing);
    found.truncate(TOLD);
    found
}

fn first_failure(statement: &Statement, request: &Request, entities: &Entities) -> Option<Nearest> {
    let clauses = statement.clauses.get_or_init(|| clauses(&statement.policy));
    let failed = clauses.iter().position(|clause| {
        let held = eval_expression(request, entities, &clause.condition);
        held != Ok(EvalResult::Bool(clause.must_be))
    })?;
    let clause = clauses.get(failed)?;
    let got = match &clause.probe {
        None => (!clause.must_be).to_string(),
        Some(probe) => match eval_expression(request, entities, probe) {
            Ok(EvalResult::String(text)) => text,
            Ok(value) => value.to_string(),
            Err(_) => "nothing".to_owned(),
        },
    };
    Some(Nearest {
        policy: statement.policy.id().to_string(),
        place: statement.place.to_string(),
        clause: clause.text.clone(),
        wanted: clause.wanted.clone(),
        got: short(&got),
        claim: clause.claim.clone(),
        missing: clauses.len() - failed,
    })
}

/// Takes a policy's conditions apart: what stands between `&&` in `when`, and between `||` in
/// `unless`.
fn clauses(policy: &Policy) -> Vec<Clause> {
    let Ok(taken) = policy.to_pst() else {
        return Vec::new();
    };
    let mut clauses = Vec::new();
    for clause in taken.body().clauses() {
        let (whole, by, must_be) = match clause {
            pst::Clause::When(whole) => (whole, BinaryOp::And, true),
            pst::Clause::Unless(whole) => (whole, BinaryOp::Or, false),
        };
        let mut parts = Vec::new();
        split(whole, by, &mut parts);
        clauses.extend(parts.iter().filter_map(|part| Clause::of(part, must_be)));
    }
    clauses
}

fn split(expr: &Arc<Expr>, by: BinaryOp, parts: &mut Vec<Arc<Expr>>) {
    match expr.as_ref() {
        Expr::BinaryOp { op, left, right } if *op == by => {
            split(left, by, parts);
            split(right, by, parts);
        }
        _ => parts.push(Arc::clone(expr)),
    }
}

impl Clause {
    fn of(expr: &Expr, must_be: bool) -> Option<Self> {
        let text = expr.to_string();
        let said = Said::of(expr);
        let not = if must_be { "" } else { "not " };
        let claim = match (&said.claim, &said.probe) {
            (Some(claim), _) => Some(claim.clone()),
            (None, Some(probe)) => claim_of(probe),
            (None, None) => None,
        };
        Some(Self {
            condition: text.parse().ok()?,
            text: short(&text),
            must_be,
            wanted: short(&format!("{not}{}", said.wanted)),
            probe: said.probe.and_then(|probe| probe.to_string().parse().ok()),
            claim,
        })
    }
}

/// A condition in words: what it wants of what.
struct Said {
    wanted: String,
    probe: Option<Arc<Expr>>,
    claim: Option<String>,
}

impl Said {
    fn of(expr: &Expr) -> Self {
        let of = |wanted: String, probe: &Arc<Expr>| Self {
            wanted,
            probe: Some(Arc::clone(probe)),
            claim: None,
        };
        match expr {
            Expr::BinaryOp { op, left, right } => Self::of_operator(*op, left, right),
            Expr::UnaryOp {
                op: UnaryOp::Not,
                expr,
            } => {
                let said = Self::of(expr);
                Self {
                    wanted: format!("not {}", said.wanted),
                    ..said
                }
            }
            Expr::Like { expr, pattern } => of(format!("like {}", pattern_text(pattern)), expr),
            Expr::HasAttr { attrs, .. } => Self {
                wanted: format!(
                    "a known {}",
                    attrs
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(".")
                ),
                probe: None,
                claim: None,
            },
            Expr::Is {
                expr, entity_type, ..
            } => of(format!("a {entity_type}"), expr),
            _ => Self::whole(expr),
        }
    }

    fn of_operator(op: BinaryOp, left: &Arc<Expr>, right: &Arc<Expr>) -> Self {
        let of = |wanted: String, probe: &Arc<Expr>| Self {
            wanted,
            probe: Some(Arc::clone(probe)),
            claim: None,
        };
        let turned = is_literal(left) && !is_literal(right);
        match op {
            BinaryOp::Eq if turned => of(plain(left), right),
            BinaryOp::Eq => of(plain(right), left),
            BinaryOp::NotEq if turned => of(format!("not {}", plain(left)), right),
            BinaryOp::NotEq => of(format!("not {}", plain(right)), left),
            BinaryOp::Less | BinaryOp::LessEq | BinaryOp::Greater | BinaryOp::GreaterEq
                if !turned =>
            {
                of(format!("{op} {}", plain(right)), left)
            }
            BinaryOp::In => of(format!("in {}", plain(right)), left),
            BinaryOp::IsInRange => of(format!("in the range {}", plain(right)), left),
            BinaryOp::Contains if matches!(left.as_ref(), Expr::Set(_)) => {
                of(format!("one of {}", plain(left)), right)
            }
            BinaryOp::Contains => of(format!("{} among them", plain(right)), left),
            BinaryOp::ContainsAll => of(format!("all of {}", plain(right)), left),
            BinaryOp::ContainsAny => of(format!("any of {}", plain(right)), left),
            BinaryOp::HasTag => {
                let claim = match right.as_ref() {
                    Expr::Literal(Literal::String(claim)) if is_proof(left) => {
                        Some(claim.to_string())
                    }
                    _ => None,
                };
                Self {
                    wanted: "a claim of this name".to_owned(),
                    probe: None,
                    claim,
                }
            }
            _ => Self::whole(&Expr::BinaryOp {
                op,
                left: Arc::clone(left),
                right: Arc::clone(right),
            }),
        }
    }

    fn whole(expr: &Expr) -> Self {
        Self {
            wanted: expr.to_string(),
            probe: None,
            claim: None,
        }
    }
}

/// The claim that an expression reads and nothing else.
fn claim_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::BinaryOp {
            op: BinaryOp::GetTag,
            left,
            right,
        } if is_proof(left) => match right.as_ref() {
            Expr::Literal(Literal::String(claim)) => Some(claim.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether it is `context.proof`.
fn is_proof(expr: &Expr) -> bool {
    match expr {
        Expr::GetAttr { expr, attr } => {
            attr == "proof" && matches!(expr.as_ref(), Expr::Var(Var::Context))
        }
        _ => false,
    }
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(_))
}

/// A text as it is, anything else as it is written.
fn plain(expr: &Expr) -> String {
    match expr {
        Expr::Literal(Literal::String(text)) => text.to_string(),
        _ => expr.to_string(),
    }
}

fn pattern_text(pattern: &[PatternElem]) -> String {
    let each = pattern.iter().map(|element| match element {
        PatternElem::Char(char) => *char,
        PatternElem::Wildcard => '*',
    });
    each.collect()
}

fn short(text: &str) -> String {
    if text.len() <= TEXT {
        return text.to_owned();
    }
    let (beginning, _) = text.split_at(text.floor_char_boundary(TEXT));
    format!("{beginning}…")
}
