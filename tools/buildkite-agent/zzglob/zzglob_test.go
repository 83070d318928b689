package zzglob

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree makes the files in a new folder and moves there.
func tree(t *testing.T, files ...string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, file := range files {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// globbed gives the files that a list of globs separated by ";" finds, as
// `buildkite-agent artifact upload` takes them.
func globbed(t *testing.T, list string, options ...GlobOption) []string {
	t.Helper()
	var patterns []*Pattern
	for glob := range strings.SplitSeq(list, ";") {
		pattern, err := Parse(glob)
		if err != nil {
			t.Fatal(err)
		}
		patterns = append(patterns, pattern)
	}
	found := []string{}
	err := MultiGlob(context.Background(), patterns, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, filepath.ToSlash(path))
		}
		return err
	}, options...)
	if err != nil {
		t.Fatalf("failed to glob %q: %v", list, err)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestMultiGlob(t *testing.T) {
	tree(t, "a.txt", "b.log", "logs/1", "logs/deep/2", "out/x.txt", "out/1/y.txt",
		"out/1/2/z.txt", "out/1/2/z.bin", "out/.hidden/h.txt", "with space/s.txt")
	for _, c := range []struct{ list, want string }{
		{"out/**/*.txt", "out/.hidden/h.txt out/1/2/z.txt out/1/y.txt out/x.txt"},
		{"*.txt;logs/*", "a.txt logs/1"},
		{"logs/**", "logs/1 logs/deep/2"},
		{"logs/**/*", "logs/1 logs/deep/2"},
		{"./out/*.txt", "out/x.txt"},
		{"out/*/y.txt", "out/1/y.txt"},
		{"out/1/{y.txt,2/z.bin}", "out/1/2/z.bin out/1/y.txt"},
		{"[ab].???", "a.txt b.log"},
		{"**/z.*;**.log", "b.log out/1/2/z.bin out/1/2/z.txt"},
		{"a.txt", "a.txt"},
		{"with space/*", "with space/s.txt"},
		{"*.txt;a.*", "a.txt"},
		{"absent/**/*.txt;absent.txt;*.nothing", ""},
	} {
		if got := strings.Join(globbed(t, c.list), " "); got != c.want {
			t.Errorf("%q found %q, want %q", c.list, got, c.want)
		}
	}
}

func TestGlobAbsoluteAndParent(t *testing.T) {
	tree(t, "in/a.txt")
	absolute, err := filepath.Abs("in")
	if err != nil {
		t.Fatal(err)
	}
	got := globbed(t, filepath.ToSlash(absolute)+"/**/*.txt")
	if want := filepath.ToSlash(filepath.Join(absolute, "a.txt")); !slices.Equal(got, []string{want}) {
		t.Errorf("found %q, want %q", got, want)
	}
	t.Chdir("in")
	if got := globbed(t, "../in/*.txt"); !slices.Equal(got, []string{"../in/a.txt"}) {
		t.Errorf("found %q, want ../in/a.txt", got)
	}
}

func TestTraverseSymlinks(t *testing.T) {
	tree(t, "real/a.txt", "top/b.txt")
	if err := os.Symlink(filepath.Join("..", "real"), filepath.Join("top", "link")); err != nil {
		t.Skipf("no symlinks here: %v", err)
	}
	if got := strings.Join(globbed(t, "top/**/*.txt", TraverseSymlinks(true)), " "); got != "top/b.txt top/link/a.txt" {
		t.Errorf("found %q through the symlink", got)
	}
	if got := strings.Join(globbed(t, "top/**/*.txt", TraverseSymlinks(false)), " "); got != "top/b.txt" {
		t.Errorf("found %q without the symlink", got)
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		glob, path string
		want       bool
	}{
		{"*.go", "a.go", true},
		{"*.go", "x/a.go", false},
		{"**.go", "a.go", true},
		{"**.go", "x/y/a.go", true},
		{"{**.go,go.{mod,sum}}", "x/a.go", true},
		{"{**.go,go.{mod,sum}}", "go.sum", true},
		{"{**.go,go.{mod,sum}}", "x/go.sum", false},
		{"src/**", "src/a/b", true},
		{"src**", "src/a/b", true},
		{"src**", "srcs/a", true},
		{"src/**/b", "src/b", true},
		{"src/**", "test/a", false},
		{`\**`, "*b", true},
		{`\**`, "a/b", false},
	} {
		pattern, err := Parse(c.glob)
		if err != nil {
			t.Fatal(err)
		}
		if got := pattern.Match(c.path); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.glob, c.path, got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	for glob, want := range map[string]bool{"~/a.txt": true, "b~/a.txt": false} {
		pattern, err := Parse(glob)
		if err != nil {
			t.Fatal(err)
		}
		if got := pattern.Match("/home/someone/a.txt"); got != want {
			t.Errorf("%q reached into the home folder: %v, want %v", glob, got, want)
		}
	}
	if pattern, err := Parse("~/a.txt", ExpandTilde(false)); err != nil || !pattern.Match("~/a.txt") {
		t.Errorf("~ was expanded against orders, or failed: %v", err)
	}
	for _, bad := range []string{"a[", "{a", "[]"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestFailures(t *testing.T) {
	tree(t, "a.txt")
	pattern, err := Parse("a*")
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if err := pattern.Glob(func(string, fs.DirEntry, error) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("the visitor's error became %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := MultiGlob(ctx, []*Pattern{pattern}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled walk gave %v", err)
	}
	absent, err := Parse("absent/*")
	if err != nil {
		t.Fatal(err)
	}
	visits := 0
	visit := func(_ string, _ fs.DirEntry, err error) error {
		visits++
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an absent root gave %v", err)
		}
		return nil
	}
	if err := absent.Glob(visit, WalkIntermediateDirs(true)); err != nil || visits != 1 {
		t.Errorf("an absent root: %d visits, %v", visits, err)
	}
}
