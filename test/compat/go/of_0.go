// What the client of 0.13 has of its own.
package main

import "github.com/apache/iotdb-client-go/client"

// Named connectionTimeoutInMs by the client, and taken for nanoseconds: 5 s.
const timeout = 5000000000

// A tablet is full from the start.
func fill(tablet *client.Tablet, rows int) {
	if tablet.GetRowCount() != rows {
		panic(tablet.GetRowCount())
	}
}

func BOOL(data *client.SessionDataSet, name string) bool {
	return data.GetBool(name)
}
func INT(data *client.SessionDataSet, name string) int32 {
	return data.GetInt32(name)
}
func LONG(data *client.SessionDataSet, name string) int64 {
	return data.GetInt64(name)
}
func FLOAT(data *client.SessionDataSet, name string) float32 {
	return data.GetFloat(name)
}
func DOUBLE(data *client.SessionDataSet, name string) float64 {
	return data.GetDouble(name)
}
func TEXT(data *client.SessionDataSet, name string) string {
	return data.GetText(name)
}
