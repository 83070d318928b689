// Command stacks-client takes one job through the Stacks API with Buildkite's
// own Go client, from register to deregister.
//
// It prints one JSON line for each call: what the client decoded, the HTTP
// status and the number of attempts, so that a test can compare them. The
// first call that fails, or answers what no stack could go on with, prints its
// error in such a line and ends the program with exit code 1. It never runs a
// job: it finishes the one that it reserved with -1.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/buildkite/stacksapi"
)

const (
	clientModule = "github.com/buildkite/stacksapi"
	// maxPages bounds the walk through the list of scheduled jobs.
	maxPages = 1000
)

// line is what is printed for one call.
type line struct {
	Call     string `json:"call"`
	Status   int    `json:"status,omitempty"`   // of the last attempt
	Attempts int    `json:"attempts,omitempty"` // HTTP requests that the client sent
	Decoded  any    `json:"decoded,omitempty"`
	Skipped  string `json:"skipped,omitempty"`
	Error    string `json:"error,omitempty"`
	Message  string `json:"message,omitempty"` // the server's, from an error reply
}

// wire counts what the client sends, which retries itself without telling.
type wire struct{ status, attempts int }

func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	w.attempts++
	w.status = 0
	reply, err := http.DefaultTransport.RoundTrip(request)
	if reply != nil {
		w.status = reply.StatusCode
	}
	return reply, err
}

// stack is one registered stack and the client that speaks for it.
type stack struct {
	client *stacksapi.Client
	wire   *wire
	key    string
	queue  string
}

func main() {
	endpoint := flag.String("endpoint", "", "the server, with its version: http://127.0.0.1:PORT/v3")
	token := flag.String("token", "", "cluster agent token; BUILDKITE_AGENT_TOKEN if empty")
	queue := flag.String("queue", "", "key of a queue that has a scheduled job")
	key := flag.String("stack-key", "stacks-client-"+strings.ToLower(rand.Text()[:8]), "key to register with")
	pageSize := flag.Int("page-size", 100, "jobs asked for in one list call; 1 makes it follow cursors")
	expiry := flag.Int("reservation-expiry", 60, "seconds that the reservation is asked to last")
	timeout := flag.Duration("timeout", time.Minute, "for the whole run, retries included")
	version := flag.Bool("version", false, "print the client's version and leave")
	flag.Parse()

	if *version {
		fmt.Println("stacks-client with", clientModule, clientVersion())
		return
	}
	if *token == "" {
		*token = os.Getenv("BUILDKITE_AGENT_TOKEN")
	}
	if *endpoint == "" || *token == "" || *queue == "" || *pageSize < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "stacks-client: --endpoint, --token and --queue are needed")
		flag.Usage()
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	s, err := newStack(*endpoint, *token, *key, *queue)
	if err == nil {
		err = s.live(ctx, *pageSize, *expiry)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stacks-client:", err)
		cancel()
		os.Exit(1)
	}
}

func newStack(endpoint, token, key, queue string) (*stack, error) {
	base, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	w := &wire{}
	client, err := stacksapi.NewClient(token,
		stacksapi.WithBaseURL(base),
		stacksapi.WithHTTPClient(&http.Client{Transport: w}),
		stacksapi.PrependToUserAgent("jitney-stacks-client"))
	if err != nil {
		return nil, err
	}
	return &stack{client: client, wire: w, key: key, queue: queue}, nil
}

// live makes every call that the client has, in the order of a job's life.
func (s *stack) live(ctx context.Context, pageSize, expiry int) error {
	if err := s.register(ctx); err != nil {
		return err
	}
	jobs, err := s.list(ctx, pageSize)
	if err != nil {
		return err
	}
	if err := s.takeAndFinish(ctx, jobs[0].ID, expiry); err != nil {
		return err
	}
	return s.deregister(ctx)
}

func (s *stack) register(ctx context.Context) error {
	registered, err := call(s, "RegisterStack", func() (*stacksapi.RegisterStackResponse, error) {
		reply, _, err := s.client.RegisterStack(ctx, stacksapi.RegisterStackRequest{
			Key:      s.key,
			Type:     stacksapi.StackTypeCustom,
			QueueKey: s.queue,
			Metadata: map[string]string{"client": clientModule, "version": clientVersion()},
		})
		return reply, err
	}, func(r *stacksapi.RegisterStackResponse) error {
		return errors.Join(
			must(r.ID != "", "id is empty"),
			must(r.OrganizationUUID != "", "organization_uuid is empty"),
			must(r.Key == s.key, "key is %q, not %q", r.Key, s.key),
			must(r.Type == stacksapi.StackTypeCustom, "type is %q, not custom", r.Type),
			must(r.ClusterQueueKey != "", "cluster_queue_key is empty"),
			must(r.State == stacksapi.StackStateConnected, "state is %q, not connected", r.State))
	})
	if err != nil {
		return err
	}
	s.queue = registered.ClusterQueueKey // as Buildkite's own stacks do from here on
	return nil
}

// list walks all pages and gives every scheduled job, at least one.
func (s *stack) list(ctx context.Context, pageSize int) ([]stacksapi.ScheduledJob, error) {
	var jobs []stacksapi.ScheduledJob
	cursor := ""
	for range maxPages {
		page, err := call(s, "ListScheduledJobs", func() (*stacksapi.ListScheduledJobsResponse, error) {
			reply, _, err := s.client.ListScheduledJobs(ctx, stacksapi.ListScheduledJobsRequest{
				StackKey:        s.key,
				ClusterQueueKey: s.queue,
				PageSize:        pageSize,
				StartCursor:     cursor,
			})
			return reply, err
		}, func(r *stacksapi.ListScheduledJobsResponse) error {
			return errors.Join(checkPage(r, pageSize, cursor),
				must(r.PageInfo.HasNextPage || len(jobs)+len(r.Jobs) > 0, "queue %q has no scheduled job to go on with", s.queue))
		})
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, page.Jobs...)
		if !page.PageInfo.HasNextPage {
			return jobs, nil
		}
		cursor = page.PageInfo.EndCursor
	}
	return nil, fmt.Errorf("the list of scheduled jobs has more than %d pages", maxPages)
}

func checkPage(page *stacksapi.ListScheduledJobsResponse, pageSize int, cursor string) error {
	problems := []error{
		must(page.ClusterQueue.ID != "", "cluster_queue.id is empty"),
		must(len(page.Jobs) <= pageSize, "%d jobs came where %d were asked for", len(page.Jobs), pageSize),
	}
	if page.PageInfo.HasNextPage {
		next := page.PageInfo.EndCursor
		problems = append(problems, must(next != "" && next != cursor, "has_next_page without a new end_cursor"))
	}
	for _, job := range page.Jobs {
		problems = append(problems,
			must(job.ID != "", "a job has no id"),
			must(!job.ScheduledAt.IsZero(), "job %s has no scheduled_at", job.ID),
			must(job.Build.UUID != "" && job.Build.Number > 0, "job %s has no build", job.ID))
	}
	return errors.Join(problems...)
}

// takeAndFinish makes the calls about one job.
func (s *stack) takeAndFinish(ctx context.Context, job string, expiry int) error {
	if err := s.reserve(ctx, job, expiry); err != nil {
		return err
	}
	if err := s.get(ctx, job); err != nil {
		return err
	}
	if err := s.states(ctx, job, "reserved"); err != nil {
		return err
	}
	if err := s.notify(ctx, job); err != nil {
		return err
	}
	// The client that this is built with has no such call.
	emit(line{Call: "job-acquisition-tokens", Skipped: clientModule + " " + clientVersion() + " has no such call"})
	if err := s.finish(ctx, job); err != nil {
		return err
	}
	return s.states(ctx, job, "finished")
}

func (s *stack) reserve(ctx context.Context, job string, expiry int) error {
	_, err := call(s, "BatchReserveJobs", func() (*stacksapi.BatchReserveJobsResponse, error) {
		reply, _, err := s.client.BatchReserveJobs(ctx, stacksapi.BatchReserveJobsRequest{
			StackKey: s.key, JobUUIDs: []string{job}, ReservationExpirySeconds: expiry,
		})
		return reply, err
	}, func(r *stacksapi.BatchReserveJobsResponse) error {
		return must(slices.Equal(r.Reserved, []string{job}) && len(r.NotReserved) == 0, "%s was not reserved", job)
	})
	return err
}

func (s *stack) get(ctx context.Context, job string) error {
	_, err := call(s, "GetJob", func() (*stacksapi.GetJobResponse, error) {
		reply, _, err := s.client.GetJob(ctx, stacksapi.GetJobRequest{StackKey: s.key, JobUUID: job})
		return reply, err
	}, func(r *stacksapi.GetJobResponse) error {
		return errors.Join(
			must(r.ID == job, "id is %q, not %q", r.ID, job),
			must(r.Env != nil, "env is absent"))
	})
	return err
}

func (s *stack) states(ctx context.Context, job, want string) error {
	_, err := call(s, "GetJobStates", func() (*stacksapi.GetJobStatesResponse, error) {
		reply, _, err := s.client.GetJobStates(ctx, stacksapi.GetJobStatesRequest{StackKey: s.key, JobUUIDs: []string{job}})
		return reply, err
	}, func(r *stacksapi.GetJobStatesResponse) error {
		return must(r.States[job] == want, "%s is %q, not %q", job, r.States[job], want)
	})
	return err
}

func (s *stack) notify(ctx context.Context, job string) error {
	_, err := call(s, "CreateStackNotifications", func() (*stacksapi.CreateStackNotificationsResponse, error) {
		reply, _, err := s.client.CreateStackNotifications(ctx, stacksapi.CreateStackNotificationsRequest{
			StackKey:      s.key,
			Notifications: []stacksapi.StackNotification{{JobUUID: job, Detail: "Taken by stacks-client"}},
		})
		return reply, err
	}, func(r *stacksapi.CreateStackNotificationsResponse) error {
		return must(r.Errors != nil && len(r.Errors) == 0, "errors is not an empty list")
	})
	return err
}

func (s *stack) finish(ctx context.Context, job string) error {
	_, err := call(s, "FinishJob", func() (*struct{}, error) {
		_, err := s.client.FinishJob(ctx, stacksapi.FinishJobRequest{
			StackKey:   s.key,
			JobUUID:    job,
			ExitStatus: -1, // the client leaves 0 out, and the server then takes -1
			Detail:     "Finished by stacks-client, which runs no jobs",
		})
		return nil, err
	}, nil)
	return err
}

func (s *stack) deregister(ctx context.Context) error {
	_, err := call(s, "DeregisterStack", func() (*struct{}, error) {
		_, err := s.client.DeregisterStack(ctx, s.key)
		return nil, err
	}, nil)
	return err
}

// call makes one call, checks its reply and prints its line.
func call[Reply any](s *stack, name string, send func() (*Reply, error), check func(*Reply) error) (*Reply, error) {
	*s.wire = wire{}
	reply, err := send()
	if err == nil && check != nil {
		err = check(reply)
	}
	printed := line{Call: name, Status: s.wire.status, Attempts: s.wire.attempts}
	if reply != nil {
		printed.Decoded = reply
	}
	if err != nil {
		printed.Error = err.Error()
		if refusal := (*stacksapi.ErrorResponse)(nil); errors.As(err, &refusal) {
			printed.Message = refusal.Message
		}
		err = fmt.Errorf("%s: %w", name, err)
	}
	emit(printed)
	return reply, err
}

func emit(printed line) {
	text, err := json.Marshal(printed)
	if err != nil {
		panic(err) // strings, numbers and times only
	}
	fmt.Println(string(text))
}

func must(holds bool, format string, values ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, values...)
}

// clientVersion is that of the module, where its own constant can lag behind.
func clientVersion() string {
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == clientModule {
				return module.Version
			}
		}
	}
	return stacksapi.Version
}
