package sandbox

import _ "embed"

//go:embed pause/pause_amd64
var pauseELF []byte
