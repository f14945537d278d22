package sandbox

import _ "embed"

//go:embed pause/pause_arm64
var pauseELF []byte
