//! Prometheus' text format 0.0.4, as far as it is needed.
//!
//! By hand, because what is to be shown is there already, in numbers that others count: a library would keep a second
//! account of them. The one of the Prometheus project writes `OpenMetrics`, in which `promtool check metrics` finds
//! counters without a help text.

use std::fmt::{Display, Write};
use std::time::Duration;

use domain::Distribution;

/// What a scraper is shown.
#[derive(Default)]
pub struct Exposition(String);

/// Samples of one name.
pub struct Family<'text> {
    name: &'static str,
    text: &'text mut String,
}

/// What tells samples of one name apart. The names are ours, and so are the values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

impl Exposition {
    /// What goes up only. The name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// What goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// How often something was how much.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.0
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        write(&mut self.0, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { name, text: &mut self.0 }
    }
}

impl Family<'_> {
    /// Adds one sample.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// Adds the samples of a histogram.
    pub fn distribution(&mut self, labels: Labels<'_>, of: &Distribution) -> &mut Self {
        for (bound, count) in &of.up_to {
            self.line("_bucket", labels, Some(&seconds(*bound).to_string()), count);
        }
        self.line("_bucket", labels, Some("+Inf"), of.count);
        self.line("_sum", labels, None, seconds(of.sum));
        self.line("_count", labels, None, of.count);
        self
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        write(self.text, format_args!("{}{suffix}", self.name));
        for (name, value) in labels.iter().copied().chain(bound) {
            write(self.text, format_args!("{before}{name}=\"{}\"", Escaped(value)));
            before = ',';
        }
        write(self.text, format_args!("{} {value}\n", if before == ',' { "}" } else { "" }));
    }
}

/// A value between quotation marks.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            character => f.write_char(character),
        })
    }
}

/// Seconds are the unit of every time in Prometheus.
pub fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    // A text takes everything.
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_help_and_its_samples() {
        let mut exposition = Exposition::default();

        exposition.counter("things_total", "Things.").sample(&[("kind", "a\"b\\c\nd"), ("size", "1")], 7);
        exposition.gauge("room", "Room.").sample(&[], 0.5);

        let expected = "# HELP things_total Things.\n# TYPE things_total counter\n\
                        things_total{kind=\"a\\\"b\\\\c\\nd\",size=\"1\"} 7\n\
                        # HELP room Room.\n# TYPE room gauge\nroom 0.5\n";
        assert_eq!(exposition.into_text(), expected);
    }

    #[test]
    fn the_buckets_of_a_distribution_are_in_seconds() {
        let up_to = vec![(Duration::from_micros(500), 1), (Duration::from_secs(1), 3)];
        let distribution = Distribution { up_to, count: 4, sum: Duration::from_millis(2500) };
        let mut exposition = Exposition::default();

        exposition.histogram("time_seconds", "Time.").distribution(&[("of", "day")], &distribution);

        let expected = "# HELP time_seconds Time.\n# TYPE time_seconds histogram\n\
                        time_seconds_bucket{of=\"day\",le=\"0.0005\"} 1\n\
                        time_seconds_bucket{of=\"day\",le=\"1\"} 3\n\
                        time_seconds_bucket{of=\"day\",le=\"+Inf\"} 4\n\
                        time_seconds_sum{of=\"day\"} 2.5\ntime_seconds_count{of=\"day\"} 4\n";
        assert_eq!(exposition.into_text(), expected);
    }
}
