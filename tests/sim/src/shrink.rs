//! What fails in a few operations instead of thousands.

/// Leaves out parts of a list for as long as what is left still fails, smaller and smaller ones, in
/// so many tries at most.
pub(crate) fn shrink<T: Clone>(
    list: &[T],
    tries: usize,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut list = list.to_vec();
    let mut part = list.len().div_ceil(2);
    let mut left = tries;
    while part > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < list.len() {
            if left == 0 {
                return list;
            }
            left -= 1;
            let end = (at + part).min(list.len());
            let rest: Vec<T> = [&list[..at], &list[end..]].concat();
            if fails(&rest) {
                list = rest;
                shorter = true;
            } else {
                at = end;
            }
        }
        if part == 1 && !shorter {
            break;
        }
        part = if part == 1 { 1 } else { part.div_ceil(2) };
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_it_fail_is_left() {
        let list: Vec<u32> = (0..1000).collect();
        let fails = |list: &[u32]| list.contains(&17) && list.contains(&900);
        assert_eq!(shrink(&list, 1000, fails), [17, 900]);
        let mut tried = 0;
        let most = shrink(&list, 10, |list| {
            tried += 1;
            fails(list)
        });
        assert!(tried == 10 && fails(&most));
    }
}
