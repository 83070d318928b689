// Package zzglob stands in for drjosh.dev/zzglob, so that buildkite-agent can
// be built where that module cannot be had.
//
// It has the names that buildkite-agent 3.137 calls and no others. Globbing is
// doublestar's; an unreadable folder below a pattern's fixed part is passed
// over where the original reports it.
package zzglob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Pattern is a parsed glob: *, **, ?, [a-z] and {a,b}, with slashes between folders.
type Pattern struct{ glob string }

type parseConfig struct{ expandTilde bool }

// ParseOption changes how Parse reads a pattern.
type ParseOption func(*parseConfig)

// ExpandTilde says whether a leading ~ means the home folder. It does by default.
func ExpandTilde(on bool) ParseOption { return func(c *parseConfig) { c.expandTilde = on } }

// doublestar takes ** only as a whole path segment; here **.go and src** cross folders too.
var (
	leadingDoubleStar  = regexp.MustCompile(`(^|[/{,])\*\*([^*/{},])`)
	trailingDoubleStar = regexp.MustCompile(`([^*/{},\\])\*\*($|[/},])`)
)

// Parse reads a pattern, or says that it is malformed.
func Parse(pattern string, options ...ParseOption) (*Pattern, error) {
	config := parseConfig{expandTilde: true}
	for _, option := range options {
		option(&config)
	}
	glob := filepath.ToSlash(pattern)
	if config.expandTilde && (glob == "~" || strings.HasPrefix(glob, "~/")) {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("expanding ~ in %q: %w", pattern, err)
		}
		glob = filepath.ToSlash(home) + glob[1:]
	}
	glob = leadingDoubleStar.ReplaceAllString(glob, "$1**/*$2")
	glob = trailingDoubleStar.ReplaceAllString(glob, "$1*/**$2")
	if !doublestar.ValidatePattern(glob) {
		return nil, fmt.Errorf("%q: %w", pattern, doublestar.ErrBadPattern)
	}
	return &Pattern{glob}, nil
}

// Match tells whether the whole of a slash-separated path matches.
func (p *Pattern) Match(path string) bool {
	matches, err := doublestar.Match(p.glob, path)
	return matches && err == nil // Parse has validated the glob
}

type globConfig struct{ traverseSymlinks, walkIntermediateDirs bool }

// GlobOption changes how Glob and MultiGlob walk.
type GlobOption func(*globConfig)

// TraverseSymlinks says whether folders behind symlinks are walked. They are by default.
func TraverseSymlinks(on bool) GlobOption {
	return func(c *globConfig) { c.traverseSymlinks = on }
}

// WalkIntermediateDirs says whether the folder at which the walk starts is
// reported when it cannot be read.
func WalkIntermediateDirs(on bool) GlobOption {
	return func(c *globConfig) { c.walkIntermediateDirs = on }
}

// Glob calls visit for everything that matches, folders included.
func (p *Pattern) Glob(visit fs.WalkDirFunc, options ...GlobOption) error {
	config := globConfig{traverseSymlinks: true}
	for _, option := range options {
		option(&config)
	}
	root, rest := doublestar.SplitPattern(p.glob)
	if config.walkIntermediateDirs {
		if _, err := os.ReadDir(root); err != nil {
			return visit(filepath.FromSlash(root), nil, err)
		}
	}
	var walkOptions []doublestar.GlobOption
	if !config.traverseSymlinks {
		walkOptions = append(walkOptions, doublestar.WithNoFollow())
	}
	return doublestar.GlobWalk(os.DirFS(root), rest, func(path string, entry fs.DirEntry) error {
		return visit(filepath.Join(root, path), entry, nil)
	}, walkOptions...)
}

// MultiGlob globs one pattern after another, until visit fails or ctx is done.
// What two patterns match is visited twice.
func MultiGlob(ctx context.Context, patterns []*Pattern, visit fs.WalkDirFunc, options ...GlobOption) error {
	for _, pattern := range patterns {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := pattern.Glob(visit, options...); err != nil && !errors.Is(err, fs.SkipAll) {
			return err
		}
	}
	return nil
}
