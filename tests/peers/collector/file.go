package main

import (
	"context"
	"os"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// fileConfig is the configuration of the exporter `jsonl`.
type fileConfig struct {
	Path string `mapstructure:"path"`
}

// file appends each batch as one line of OTLP JSON, by one write. Contrib's file exporter buffers
// and flushes at intervals, so that a test would have to guess when the file is complete; here, a
// batch whose sender has been answered is in the file.
type file struct {
	path  string
	mutex sync.Mutex
	file  *os.File
}

func newFileFactory() exporter.Factory {
	return exporter.NewFactory(
		component.MustNewType("jsonl"),
		func() component.Config { return &fileConfig{} },
		exporter.WithMetrics(newFile, component.StabilityLevelDevelopment),
	)
}

func newFile(_ context.Context, _ exporter.Settings, config component.Config) (exporter.Metrics, error) {
	return &file{path: config.(*fileConfig).Path}, nil
}

func (f *file) Start(context.Context, component.Host) (err error) {
	f.file, err = os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return err
}

func (f *file) Shutdown(context.Context) error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

func (f *file) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: false}
}

func (f *file) ConsumeMetrics(_ context.Context, metrics pmetric.Metrics) error {
	line, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
	if err != nil {
		return err
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	_, err = f.file.Write(append(line, '\n'))
	return err
}
