//! Options as they were given: `name=value` arguments or, in capitals, from the environment.

/// The arguments of a bench and the text that describes its options, one `NAME=default` a line.
pub(crate) struct Given<'a> {
    pub(crate) arguments: &'a [String],
    pub(crate) help: &'static str,
}

impl Given<'_> {
    pub(crate) fn check(&self) -> Result<(), String> {
        let known = |name: &str| self.help.lines().any(|line| line.trim_start().starts_with(&format!("{name}=")));
        for argument in self.arguments {
            if !argument.split_once('=').is_some_and(|(name, _)| known(&name.to_uppercase())) {
                return Err(format!("unknown option {argument}\n{}", self.help));
            }
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "a bench is a program of its own, without the gateway's config")]
    pub(crate) fn text(&self, name: &str, default: &str) -> String {
        let mut pairs = self.arguments.iter().filter_map(|argument| argument.split_once('='));
        let argument = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
        argument
            .or_else(|| std::env::var(name).ok())
            .filter(|value| !value.is_empty())
            .unwrap_or_else(|| default.to_owned())
    }

    pub(crate) fn number<T: std::str::FromStr + ToString>(&self, name: &str, default: &T) -> Result<T, String> {
        let text = self.text(name, &default.to_string());
        text.parse().map_err(|_| format!("{name}={text} is not a number"))
    }
}
