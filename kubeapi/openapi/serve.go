package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/munnerz/goautoneg"
)

const (
	typeJSON = "application/json"
	// Clients ask for the first, which is no valid media type, and are answered with the second.
	typeV2Asked    = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	typeV2Answered = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
)

// Handler answers GET of /openapi/v2, as JSON and as the protobuf that is all that client-go reads of it, and of
// /openapi/v3 and the group versions below it, as JSON, which client-go asks for since there is a v3. Who accepts
// nothing of that is answered 406.
func Handler() http.Handler {
	index := sync.OnceValue(index)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /openapi/v2", serveV2)
	mux.HandleFunc("GET /openapi/v3", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", typeJSON)
		answer(w, r, hash(index()), func() error {
			_, err := w.Write(index())
			return err
		})
	})
	mux.HandleFunc("GET /openapi/v3/{groupVersion...}", serveV3)
	return mux
}

// index is the list of v3's documents. Their addresses change with what is in them, so that they can be cached for ever.
func index() []byte {
	type document struct {
		URL string `json:"serverRelativeURL"`
	}
	paths := map[string]document{}
	for _, gv := range groupVersions() {
		packed, err := packed(fileOf(gv))
		if err != nil {
			panic(err) // it was listed
		}
		paths[gv] = document{"/openapi/v3/" + gv + "?hash=" + hash(packed)}
	}
	text, err := json.Marshal(map[string]any{"paths": paths})
	if err != nil {
		panic(err) // strings can be marshaled
	}
	return text
}

func serveV2(w http.ResponseWriter, r *http.Request) {
	switch accepted(r, typeJSON, typeV2Asked, typeV2Answered) {
	case typeJSON:
		serve(w, r, "v2.json", typeJSON)
	case typeV2Asked, typeV2Answered:
		serve(w, r, "v2.pb", typeV2Answered)
	default:
		http.Error(w, "OpenAPI v2 is to be had as "+typeJSON+" and "+typeV2Answered, http.StatusNotAcceptable)
	}
}

func serveV3(w http.ResponseWriter, r *http.Request) {
	if accepted(r, typeJSON) == "" {
		http.Error(w, "OpenAPI v3 is to be had as "+typeJSON, http.StatusNotAcceptable)
		return
	}
	gv := r.PathValue("groupVersion")
	if !slices.Contains(groupVersions(), gv) {
		http.NotFound(w, r)
		return
	}
	serve(w, r, fileOf(gv), typeJSON)
}

// accepted is the first of the types, best first, that the client takes, or "".
func accepted(r *http.Request, types ...string) string {
	header := r.Header.Get("Accept")
	if header == "" {
		return types[0]
	}
	return goautoneg.Negotiate(header, types)
}

// serve answers with a document, compressed as it is for who can read that.
func serve(w http.ResponseWriter, r *http.Request, name, contentType string) {
	packed, err := packed(name)
	if err != nil {
		panic(err) // it is embedded
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Vary", "Accept, Accept-Encoding")
	sum := hash(packed)
	if r.URL.Query().Get("hash") == sum {
		h.Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	answer(w, r, sum, func() error {
		if takesGzip(r) {
			h.Set("Content-Encoding", "gzip")
			h.Set("Content-Length", strconv.Itoa(len(packed)))
			_, err := w.Write(packed)
			return err
		}
		text, err := unpack(packed)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, text)
		return err
	})
}

// answer writes the body, unless the client has it. A body that breaks off breaks the connection.
func answer(w http.ResponseWriter, r *http.Request, sum string, write func() error) {
	etag := strconv.Quote(sum)
	w.Header().Set("ETag", etag)
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if err := write(); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func takesGzip(r *http.Request) bool {
	return slices.ContainsFunc(strings.Split(r.Header.Get("Accept-Encoding"), ","), func(coding string) bool {
		return strings.TrimSpace(coding) == "gzip"
	})
}

func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
