//! `${NAME}` and `${file:PATH}` in texts of the configuration.

use serde_json::Value;

/// The longest file that a text takes in, bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Replaces in every text below `value`. `variables` is the environment.
pub(super) fn expand(value: &mut Value, variables: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            if text.contains("${") {
                *text = expand_text(text, variables)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|it| expand(it, variables)),
        Value::Object(members) => members.values_mut().try_for_each(|it| expand(it, variables)),
        _ => Ok(()),
    }
}

fn expand_text(text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        out.push_str(before);
        let (name, after) = behind.split_once('}').ok_or_else(|| format!("`${{` without `}}` in \"{text}\""))?;
        match name.strip_prefix("file:") {
            Some(path) => out.push_str(read_file(path)?.trim_end_matches(['\n', '\r'])),
            None => out
                .push_str(&variables(name).ok_or_else(|| format!("the environment has no variable `{name}`; set it, or write the value"))?),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn read_file(path: &str) -> Result<String, String> {
    let meta = std::fs::metadata(path).map_err(|error| format!("${{file:{path}}}: {error}"))?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(format!("${{file:{path}}}: {} bytes, at most {FILE_BYTES_MAX}", meta.len()));
    }
    std::fs::read_to_string(path).map_err(|error| format!("${{file:{path}}}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_files_are_replaced_and_missing_ones_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from a file\n").unwrap();
        let env = |name: &str| (name == "HOME_REGION").then(|| "eu-west-1".to_owned());
        let mut value = json!({"a": ["x-${HOME_REGION}-y"], "b": format!("${{file:{}}}", file.path().display()), "n": 1});
        expand(&mut value, &env).unwrap();
        assert_eq!(value, json!({"a": ["x-eu-west-1-y"], "b": "from a file", "n": 1}));
        assert!(expand(&mut json!("${NOPE}"), &env).unwrap_err().contains("`NOPE`"));
        assert!(expand(&mut json!("${HOME_REGION"), &env).unwrap_err().contains("without"));
    }
}
