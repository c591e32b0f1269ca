/// The version of all programs, which belong together.
public let hengeVersion = "0.1.0"
